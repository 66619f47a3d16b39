"""Adjustments that are proposed by themselves: for every event that came too late.

Set-aside events of one metric, customer, period and arrival day are one adjustment, as long as
nobody has decided it; what arrives after that is another.
"""

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from metering.catalog import period_sql
from metering.catalog.period import Span
from metering.ledger.read import at_key

# Who proposes: nobody's key and no person.
ACTOR = "stripemeter"


def new_id() -> str:
    """A random id of an adjustment."""
    return f"adj_{secrets.token_hex(12)}"


def propose(session: Session, tenant_id: str, *, now: datetime) -> int:
    """Give every set-aside event that has none its adjustment. Returns: how many are new.

    Under the tenant's lock.
    """
    session.flush()
    connection = session.connection()
    parameters: dict[str, Any] = {"tenant_id": tenant_id, "now": now, "actor": ACTOR}
    groups = connection.exec_driver_sql(_WITHOUT, parameters).all()
    if not groups:
        return 0
    parameters |= {
        "ids": [new_id() for _ in groups],
        "refs": [group.customer_ref for group in groups],
        "metrics": [group.metric for group in groups],
        "starts": [group.period_start for group in groups],
        "days": [group.arrived_on for group in groups],
        "reasons": ["backfill" if group.is_backfill else "late" for group in groups],
    }
    made = connection.exec_driver_sql(_PROPOSE, parameters).rowcount
    connection.exec_driver_sql(_JOIN, parameters)
    return made


def follow(
    session: Session,
    tenant_id: str,
    customer_ref: str,
    metric: str,
    spans: Sequence[Span],
    *,
    now: datetime,
) -> None:
    """Take adjustments along to where their customer's metric's periods are now.

    Called after the set-aside events were moved. Proposals that nobody has decided are drawn up
    anew where their events went to another period; what was decided stays one adjustment.
    """
    for span in spans:
        parameters = {
            "tenant_id": tenant_id,
            "customer_ref": customer_ref,
            "metric": metric,
            "start_at": span.start_at,
            "end_at": span.end_at,
        }
        session.connection().exec_driver_sql(_LOOSEN, parameters)
        session.connection().exec_driver_sql(_MOVE_DECIDED, parameters)
        session.connection().exec_driver_sql(_MOVE_DELTAS, parameters)
    propose(session, tenant_id, now=now)
    session.connection().exec_driver_sql(
        _CLEAR, {"tenant_id": tenant_id, "customer_ref": customer_ref, "metric": metric}
    )


# The day of arrival is the event's own: when it was folded decides nothing.
_LOOSE = f"""
loose AS MATERIALIZED (
    SELECT a.idempotency_key, a.customer_ref, a.metric, a.period_start,
           date_trunc('day', e.recorded_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS arrived_on,
           a.reason = 'backfill' AS is_backfill
    FROM (SELECT idempotency_key, customer_ref, metric, period_start, reason FROM set_aside
          WHERE tenant_id = %(tenant_id)s AND adjustment_id IS NULL) AS a
    CROSS JOIN LATERAL (
        SELECT recorded_at FROM events
        WHERE tenant_id = %(tenant_id)s AND {at_key("a.idempotency_key")}
    ) AS e
)
"""
_WITHOUT = f"""
WITH {_LOOSE}
SELECT customer_ref, metric, period_start, arrived_on, bool_and(is_backfill) AS is_backfill
FROM loose GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""
_PROPOSE = """
WITH wanted AS (
    SELECT w.*
    FROM unnest(%(ids)s::text[], %(refs)s::text[], %(metrics)s::text[], %(starts)s::timestamptz[],
                %(days)s::timestamptz[], %(reasons)s::text[])
        AS w (adjustment_id, customer_ref, metric, period_start, arrived_on, reason)
    WHERE NOT EXISTS (
        SELECT 1 FROM adjustments j
        WHERE j.tenant_id = %(tenant_id)s AND j.customer_ref = w.customer_ref
          AND j.metric = w.metric AND j.period_start = w.period_start
          AND j.arrived_on = w.arrived_on AND j.origin = 'set_aside' AND j.status = 'pending')
), made AS (
    INSERT INTO adjustments (tenant_id, adjustment_id, customer_ref, metric, period_start, kind,
                             reason, status, origin, arrived_on, created_at, created_by)
    SELECT %(tenant_id)s, adjustment_id, customer_ref, metric, period_start, 'events', reason,
           'pending', 'set_aside', arrived_on, %(now)s, %(actor)s
    FROM wanted
    RETURNING adjustment_id
)
INSERT INTO adjustment_steps (tenant_id, adjustment_id, number, action, actor, taken_at)
SELECT %(tenant_id)s, adjustment_id, 1, 'propose', %(actor)s, %(now)s FROM made
"""
_JOIN = f"""
WITH {_LOOSE}, pending AS MATERIALIZED (
    SELECT l.idempotency_key, j.adjustment_id
    FROM loose l
    CROSS JOIN LATERAL (
        SELECT adjustment_id FROM adjustments
        WHERE tenant_id = %(tenant_id)s AND customer_ref = l.customer_ref AND metric = l.metric
          AND period_start = l.period_start AND arrived_on = l.arrived_on
          AND origin = 'set_aside' AND status = 'pending'
        LIMIT 1
    ) AS j
)
UPDATE set_aside a SET adjustment_id = p.adjustment_id
FROM pending p
WHERE a.tenant_id = %(tenant_id)s AND a.idempotency_key = p.idempotency_key
"""

_LOOSEN = """
UPDATE set_aside a SET adjustment_id = NULL
FROM adjustments j
WHERE a.tenant_id = %(tenant_id)s AND a.customer_ref = %(customer_ref)s
  AND a.metric = %(metric)s
  AND a.period_start >= %(start_at)s AND a.period_start < %(end_at)s
  AND j.tenant_id = %(tenant_id)s AND j.adjustment_id = a.adjustment_id
  AND j.status = 'pending' AND j.period_start <> a.period_start
"""
_MOVE_DECIDED = """
UPDATE adjustments j SET period_start = moved.period_start
FROM (SELECT adjustment_id, min(period_start) AS period_start FROM set_aside
      WHERE tenant_id = %(tenant_id)s AND customer_ref = %(customer_ref)s
        AND metric = %(metric)s
        AND period_start >= %(start_at)s AND period_start < %(end_at)s
        AND adjustment_id IS NOT NULL
      GROUP BY 1) AS moved
WHERE j.tenant_id = %(tenant_id)s AND j.adjustment_id = moved.adjustment_id
  AND j.status <> 'pending' AND j.period_start <> moved.period_start
"""
_MOVE_DELTAS = f"""
WITH drawn AS MATERIALIZED (
    SELECT adjustment_id, at,
           {period_sql.begun("%(customer_ref)s", "%(metric)s", "at")} AS begun
    FROM (SELECT adjustment_id,
                 CASE WHEN disposition = 'apply' THEN segment_start ELSE period_start END AS at
          FROM adjustments
          WHERE tenant_id = %(tenant_id)s AND customer_ref = %(customer_ref)s
            AND metric = %(metric)s AND kind = 'delta'
            AND period_start >= %(start_at)s AND period_start < %(end_at)s) AS mine
)
UPDATE adjustments j SET period_start = moved.start_at
FROM (SELECT adjustment_id, {period_sql.start("begun", "at")} AS start_at FROM drawn) AS moved
WHERE j.tenant_id = %(tenant_id)s AND j.adjustment_id = moved.adjustment_id
  AND j.period_start <> moved.start_at
"""
# Its events went to other proposals: nobody has decided anything, and nothing is left to decide.
_CLEAR = """
WITH gone AS (
    DELETE FROM adjustments
    WHERE tenant_id = %(tenant_id)s AND customer_ref = %(customer_ref)s AND metric = %(metric)s
      AND origin = 'set_aside' AND status = 'pending'
      AND NOT EXISTS (SELECT 1 FROM set_aside a WHERE a.tenant_id = %(tenant_id)s
                      AND a.adjustment_id = adjustments.adjustment_id)
    RETURNING adjustment_id
)
DELETE FROM adjustment_steps s USING gone
WHERE s.tenant_id = %(tenant_id)s AND s.adjustment_id = gone.adjustment_id
"""
