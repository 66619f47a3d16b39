"""One writer of a tenant's counters at a time: the tenant's lock, and its running totals."""

from sqlalchemy.orm import Session

_TRY = """
SELECT 1 FROM tenant_locks WHERE tenant_id = %(tenant_id)s FOR UPDATE SKIP LOCKED
"""
_WAIT = "SELECT 1 FROM tenant_locks WHERE tenant_id = %(tenant_id)s FOR UPDATE"

_ADD = """
UPDATE tenant_locks
SET folds = folds + 1, folded = folded + %(folded)s, set_aside = set_aside + %(set_aside)s,
    dead_letters = dead_letters + %(dead_letters)s,
    reaggregations = reaggregations + %(reaggregations)s,
    fold_seconds = fold_seconds + %(seconds)s
WHERE tenant_id = %(tenant_id)s
"""


def try_lock(session: Session, tenant_id: str) -> bool:
    """Lock the tenant's counters until the transaction ends; False if another holds them."""
    row = session.connection().exec_driver_sql(_TRY, {"tenant_id": tenant_id}).first()
    return row is not None


def lock(session: Session, tenant_id: str) -> None:
    """Lock the tenant's counters, waiting for whoever holds them (at most `lock_timeout`)."""
    session.connection().exec_driver_sql(_WAIT, {"tenant_id": tenant_id})


_ADD_CLOSED = """
UPDATE tenant_locks SET periods_closed = periods_closed + %(periods)s
WHERE tenant_id = %(tenant_id)s
"""


def add_closed(session: Session, tenant_id: str, periods: int) -> None:
    """Add billing periods that have just been closed to the tenant's running totals."""
    parameters = {"tenant_id": tenant_id, "periods": periods}
    session.connection().exec_driver_sql(_ADD_CLOSED, parameters)


def add_totals(
    session: Session,
    tenant_id: str,
    *,
    folded: int,
    set_aside: int,
    dead_letters: int,
    reaggregations: int,
    seconds: float,
) -> None:
    """Add one fold to the tenant's running totals, which `/metrics` sums up."""
    parameters = {
        "tenant_id": tenant_id,
        "folded": folded,
        "set_aside": set_aside,
        "dead_letters": dead_letters,
        "reaggregations": reaggregations,
        "seconds": round(seconds, 6),
    }
    session.connection().exec_driver_sql(_ADD, parameters)
