"""Running totals of what became of pushes, written by the transaction that learned it."""

from collections import Counter
from collections.abc import Iterable

from sqlalchemy.orm import Session

# A call that never left this machine; what Stripe said to one that did; what its totals say later.
NOT_SENT = "not_sent"
ANSWERS = ("accepted", "duplicate", "retry", "rejected", "gone", "auth")
VERDICTS = ("confirmed", "missing")
OUTCOMES = (*ANSWERS, NOT_SENT, *VERDICTS)
# Of these answers Stripe has the usage; of the others it has not, or it cannot be told.
TAKEN = ("accepted", "duplicate")

# In order, so that two who count at once never wait for each other in a circle.
_ADD = """
INSERT INTO push_totals (tenant_id, mode, outcome, total)
SELECT %(tenant_id)s, w.mode, w.outcome, w.total
FROM unnest(%(modes)s::text[], %(outcomes)s::text[], %(totals)s::bigint[])
    AS w (mode, outcome, total)
ON CONFLICT (tenant_id, mode, outcome) DO UPDATE SET total = push_totals.total + excluded.total
"""
_READ = "SELECT mode, outcome, total FROM push_totals WHERE tenant_id = %(tenant_id)s"


def add(session: Session, tenant_id: str, said: Iterable[tuple[str, str]]) -> None:
    """Count these (mode, outcome)."""
    counts = sorted(Counter(said).items())
    if not counts:
        return
    parameters = {
        "tenant_id": tenant_id,
        "modes": [mode for (mode, _), _ in counts],
        "outcomes": [outcome for (_, outcome), _ in counts],
        "totals": [total for _, total in counts],
    }
    session.connection().exec_driver_sql(_ADD, parameters)


def read(session: Session, tenant_id: str) -> dict[tuple[str, str], int]:
    """All of a tenant's totals, by (mode, outcome)."""
    rows = session.connection().exec_driver_sql(_READ, {"tenant_id": tenant_id})
    return {(row.mode, row.outcome): row.total for row in rows}
