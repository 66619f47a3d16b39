"""Where a tenant stands with Stripe, by mode: what waits, what is on its way, what is confirmed."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from metering.stripe import tally
from metering.stripe.modes import MODES

# Rows of the long tables are counted to so many.
COUNTED_TO = 100_000


@dataclass(frozen=True)
class Halt:
    """An account to which nothing is sent. until: when it is tried again; kind `rate_limited` is
    no trouble."""

    account_id: str
    kind: str
    reason: str
    until: datetime | None


@dataclass(frozen=True)
class Standing:
    """One mode.

    mappings:  those in force or to come that lead to Stripe in this mode.
    unsent:    segments of which Stripe may not have heard all; oldest_unsent_at: since when the
               one that waits longest has waited.
    on_the_way: pushes that are claimed and not yet answered.
    unconfirmed: pushes that Stripe accepted and whose total was not yet seen to hold them.
    confirmed: pushes that it was, ever.  doubtful: those of which only the totals can tell.
    held, held_customers: customers' metrics, and customers, that have nowhere to go.
    blocked: streams that Stripe refuses.  unsendable: segments that are a decision.
    is_lower_bound: `unsent` or `unconfirmed` was not counted to its end.
    """

    mode: str
    mappings: int = 0
    unsent: int = 0
    oldest_unsent_at: datetime | None = None
    on_the_way: int = 0
    unconfirmed: int = 0
    oldest_unconfirmed_at: datetime | None = None
    confirmed: int = 0
    doubtful: int = 0
    drifting: int = 0
    held: int = 0
    held_customers: int = 0
    blocked: int = 0
    unsendable: int = 0
    halts: tuple[Halt, ...] = ()
    last_answer_at: datetime | None = None
    is_lower_bound: bool = False

    @property
    def is_used(self) -> bool:
        """False where nothing leads to Stripe in this mode, and nothing ever did."""
        counts = (self.mappings, self.unsent, self.on_the_way, self.unconfirmed, self.confirmed)
        return any(counts) or bool(self.doubtful or self.held or self.unsendable or self.halts)

    @property
    def is_stuck(self) -> bool:
        return bool(
            self.held
            or self.blocked
            or self.doubtful
            or self.drifting
            or self.unsendable
            or any(halt.kind != "rate_limited" for halt in self.halts)
        )


def overview(session: Session, tenant_id: str, *, now: datetime) -> list[Standing]:
    """Live first, then test."""
    found = {mode: Standing(mode) for mode in MODES}
    parameters = {"tenant_id": tenant_id, "now": now, "most": COUNTED_TO}
    connection = session.connection()
    for statement in _COUNTS:
        for row in connection.exec_driver_sql(statement, parameters):
            values: dict[str, Any] = dict(row._mapping)
            mode = values.pop("mode")
            is_capped = values.pop("is_capped", False) or found[mode].is_lower_bound
            found[mode] = replace(found[mode], is_lower_bound=is_capped, **values)
    for row in connection.exec_driver_sql(_CONNECTIONS, parameters):
        known = found[row.mode]
        halt = (Halt(row.account_id, row.halted_kind, row.halted_reason, row.halted_until),)
        answered = [at for at in (known.last_answer_at, row.last_ok_at) if at is not None]
        found[row.mode] = replace(
            known,
            halts=known.halts + (halt if row.halted_kind is not None else ()),
            last_answer_at=max(answered, default=None),
        )
    totals = tally.read(session, tenant_id)
    return [replace(found[mode], confirmed=totals.get((mode, "confirmed"), 0)) for mode in MODES]


_MAPPINGS = """
SELECT way.mode, count(*) AS mappings
FROM mappings m
CROSS JOIN LATERAL (VALUES ('live', m.is_active), ('test', m.is_shadow)) AS way (mode, is_on)
WHERE m.tenant_id = %(tenant_id)s AND way.is_on
  AND coalesce(m.meter_event_name, m.meter_id, m.price_id, m.shadow_price_id) IS NOT NULL
  AND (m.effective_until IS NULL OR m.effective_until > %(now)s)
  AND (way.mode = 'test' OR EXISTS (
      SELECT 1 FROM tenants t WHERE t.tenant_id = %(tenant_id)s AND t.mode = 'live'))
GROUP BY 1
"""
_UNSENT = """
SELECT w.mode, u.unsent, u.oldest_unsent_at, u.unsent >= %(most)s AS is_capped
FROM (VALUES ('live'), ('test')) AS w (mode)
CROSS JOIN LATERAL (
    SELECT count(*) AS unsent, min(changed_at) AS oldest_unsent_at
    FROM (SELECT changed_at FROM unsent
          WHERE tenant_id = %(tenant_id)s AND mode = w.mode LIMIT %(most)s) AS few
) AS u
"""
_OPEN = """
SELECT t.mode, count(*) FILTER (WHERE p.state = 'claimed') AS on_the_way,
       count(*) FILTER (WHERE p.state <> 'claimed') AS doubtful
FROM pushes p
JOIN push_streams t ON t.tenant_id = %(tenant_id)s AND t.stream_id = p.stream_id
WHERE p.tenant_id = %(tenant_id)s AND p.state IN ('claimed', 'ambiguous', 'suspect')
GROUP BY 1
"""
_UNCONFIRMED = """
WITH oldest AS MATERIALIZED (
    SELECT stream_id, settled_at FROM pushes
    WHERE tenant_id = %(tenant_id)s AND state = 'settled' ORDER BY settled_at LIMIT %(most)s
)
SELECT t.mode, count(*) AS unconfirmed, min(p.settled_at) AS oldest_unconfirmed_at,
       (SELECT count(*) FROM oldest) >= %(most)s AS is_capped
FROM oldest p
JOIN push_streams t ON t.tenant_id = %(tenant_id)s AND t.stream_id = p.stream_id
GROUP BY 1
"""
_DRIFTING = """
SELECT t.mode, count(*) AS drifting
FROM pushes p
JOIN push_streams t ON t.tenant_id = %(tenant_id)s AND t.stream_id = p.stream_id
WHERE p.tenant_id = %(tenant_id)s AND p.state = 'settled' AND p.error IS NOT NULL
GROUP BY 1
"""
_HELD = """
SELECT mode, count(*) AS held, count(DISTINCT customer_ref) AS held_customers
FROM held WHERE tenant_id = %(tenant_id)s GROUP BY 1
"""
_BLOCKED = """
SELECT mode, count(*) AS blocked FROM push_streams
WHERE tenant_id = %(tenant_id)s AND blocked_kind IS NOT NULL GROUP BY 1
"""
_UNSENDABLE = """
SELECT t.mode, count(*) AS unsendable
FROM unsendable u
JOIN push_streams t ON t.tenant_id = %(tenant_id)s AND t.stream_id = u.stream_id
WHERE u.tenant_id = %(tenant_id)s AND NOT u.is_decided AND u.quantity <> 0 GROUP BY 1
"""
_COUNTS = (
    _MAPPINGS,
    _UNSENT,
    _OPEN,
    _UNCONFIRMED,
    _DRIFTING,
    _HELD,
    _BLOCKED,
    _UNSENDABLE,
)
_CONNECTIONS = """
SELECT mode, account_id, halted_kind, halted_reason, halted_until, last_ok_at
FROM stripe_connections WHERE tenant_id = %(tenant_id)s ORDER BY mode, account_id
"""

_UNCOUNTED = """
SELECT count(*), min(recorded_at)
FROM (SELECT recorded_at FROM unfolded WHERE tenant_id = %(tenant_id)s
      ORDER BY recorded_at LIMIT %(most)s) AS few
"""


def uncounted(session: Session, tenant_id: str) -> tuple[int, datetime | None]:
    """Events that no counter holds yet, to `COUNTED_TO`, and since when the oldest waits."""
    parameters = {"tenant_id": tenant_id, "most": COUNTED_TO}
    count, oldest = session.connection().exec_driver_sql(_UNCOUNTED, parameters).one()
    return count, oldest
