"""Events that the database refused to fold: what they are, and to have them counted again.

Sent again, a dead letter goes back to the unfolded under its own arrival, so that its lateness is
judged as it would have been. Key by key, folded + set aside + dead letters + unfolded stays the
ledger.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy.orm import Session

from metering.ledger import read
from metering.tenancy import locks

# Letters that a transaction sends again.
TURN = 10_000


@dataclass(frozen=True)
class Letter:
    """A dead letter with its event. error: what the database said, in words."""

    event_id: str
    metric: str
    customer_ref: str
    quantity: Decimal
    occurred_at: datetime
    recorded_at: datetime
    error: str
    failed_at: datetime
    is_void: bool


_PAGE = f"""
SELECT d.idempotency_key AS event_id, e.metric, e.customer_ref, e.quantity, e.occurred_at,
       e.recorded_at, d.error, d.failed_at,
       EXISTS (SELECT 1 FROM voids v WHERE v.tenant_id = %(tenant_id)s
               AND v.idempotency_key = d.idempotency_key) AS is_void
FROM (
    SELECT idempotency_key, error, failed_at FROM dead_letters
    WHERE tenant_id = %(tenant_id)s AND idempotency_key > %(after)s
    ORDER BY idempotency_key LIMIT %(limit)s
) AS d
CROSS JOIN LATERAL (
    SELECT metric, customer_ref, quantity, occurred_at, recorded_at FROM events
    WHERE tenant_id = %(tenant_id)s AND {read.at_key("d.idempotency_key")}
) AS e
ORDER BY d.idempotency_key
"""
_COUNT = """
SELECT count(*) FROM (
    SELECT 1 FROM dead_letters WHERE tenant_id = %(tenant_id)s LIMIT %(most)s
) AS few
"""


def page(session: Session, tenant_id: str, *, after: str = "", limit: int) -> list[Letter]:
    """So many dead letters in the order of their keys, from behind a key."""
    parameters = {"tenant_id": tenant_id, "after": after, "limit": limit}
    rows = session.connection().exec_driver_sql(_PAGE, parameters)
    return [
        Letter(**{name: value for name, value in row._mapping.items() if name != "error"},
               error=in_words(row.error))
        for row in rows
    ]  # fmt: skip


def count(session: Session, tenant_id: str, *, most: int = TURN) -> int:
    """How many there are, counted to `most`."""
    parameters = {"tenant_id": tenant_id, "most": most}
    return int(session.connection().exec_driver_sql(_COUNT, parameters).scalar_one())


_KINDS = {
    "22": "the database cannot hold one of its values",
    "23": "the database found it to contradict what is there",
    "54": "a name in it is too long for the database",
    "P0": "a rule in the database refused it",
}


def in_words(error: str) -> str:
    """`22003: value overflows` as a clause, with what the database itself said."""
    sqlstate, _, said = error.partition(": ")
    kind = _KINDS.get(sqlstate[:2])
    return f"{kind}: {said}" if kind is not None and said else error


@dataclass(frozen=True)
class Resent:
    """events: sent again.  void: left alone, for they are void.  last_key: where the next turn
    begins; None: there are no more."""

    events: int
    void: int
    last_key: str | None


# What is void stays where it is: it counts nowhere, and its restoring is another decision.
_RESEND = f"""
WITH chosen AS MATERIALIZED (
    SELECT d.idempotency_key,
           EXISTS (SELECT 1 FROM voids v WHERE v.tenant_id = %(tenant_id)s
                   AND v.idempotency_key = d.idempotency_key) AS is_void
    FROM dead_letters d
    WHERE d.tenant_id = %(tenant_id)s AND d.idempotency_key > %(after)s
      AND d.failed_at <= %(until)s
      AND (%(ids)s::text[] IS NULL OR d.idempotency_key = ANY(%(ids)s::text[]))
    ORDER BY d.idempotency_key LIMIT %(limit)s
), taken AS (
    DELETE FROM dead_letters
    WHERE tenant_id = %(tenant_id)s
      AND idempotency_key = ANY (ARRAY(SELECT idempotency_key FROM chosen WHERE NOT is_void))
    RETURNING idempotency_key, late
), queued AS (
    INSERT INTO unfolded (tenant_id, recorded_at, idempotency_key, late)
    SELECT %(tenant_id)s, e.recorded_at, taken.idempotency_key, taken.late
    FROM taken
    CROSS JOIN LATERAL (
        SELECT recorded_at FROM events
        WHERE tenant_id = %(tenant_id)s AND {read.at_key("taken.idempotency_key")}
    ) AS e
    RETURNING 1
)
SELECT (SELECT count(*) FROM queued) AS events, count(*) FILTER (WHERE is_void) AS void,
       CASE WHEN count(*) >= %(limit)s THEN max(idempotency_key) END AS last_key
FROM chosen
"""


def resend(
    session: Session,
    tenant_id: str,
    ids: Sequence[str] | None = None,
    *,
    until: datetime,
    after: str = "",
    limit: int = TURN,
) -> Resent:
    """Put dead letters back to be counted, under the tenant's lock; the caller wakes the fold.

    ids: None: all of them that died by `until`, so that one which dies anew is not sent for ever.
    """
    locks.lock(session, tenant_id)
    parameters = {
        "tenant_id": tenant_id,
        "ids": None if ids is None else list(ids),
        "until": until,
        "after": after,
        "limit": limit,
    }
    row = session.connection().exec_driver_sql(_RESEND, parameters).one()
    return Resent(row.events, row.void, row.last_key)
