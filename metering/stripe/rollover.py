"""Gauges that carry over: a period that began without events is billed all the same."""

from datetime import datetime

from sqlalchemy.orm import Session

from metering.catalog import period_sql
from metering.counters.carry import LEVEL
from metering.stripe import unsent

# A stretch of them, with the start of the present period and whether it has heard anything: a
# tenant may have a hundred thousand gauges, nearly all of which have nothing to say just now. An
# event of the period is told by itself, and a gauge that stood at 0 has nothing to carry over.
_GAUGES = f"""
WITH gauges AS MATERIALIZED (
    SELECT g.customer_ref, g.metric,
           {period_sql.begun("g.customer_ref", "g.metric", "%(now)s::timestamptz")} AS begun
    FROM (
        SELECT DISTINCT f.customer_ref, f.metric
        FROM metrics m
        JOIN stream_sources f ON f.tenant_id = %(tenant_id)s AND f.metric = m.metric
        WHERE m.tenant_id = %(tenant_id)s AND m.carry_over
          AND (f.customer_ref, f.metric) > (%(after_ref)s, %(after_metric)s)
        ORDER BY 1, 2 LIMIT %(most)s
    ) AS g
), placed AS MATERIALIZED (
    SELECT customer_ref, metric,
           {period_sql.start("begun", "%(now)s::timestamptz")} AS start_at
    FROM gauges
)
SELECT p.customer_ref, p.metric, p.start_at,
       coalesce(latest.period_start < p.start_at AND latest.last_value <> 0, false)
       AND NOT EXISTS (
           SELECT 1 FROM stream_sources f
           JOIN pushes u ON u.tenant_id = %(tenant_id)s AND u.stream_id = f.stream_id
               AND u.segment_start = p.start_at AND u.basis = 'period'
           WHERE f.tenant_id = %(tenant_id)s AND f.customer_ref = p.customer_ref
             AND f.metric = p.metric
       ) AS is_silent
FROM placed p
LEFT JOIN LATERAL (
    SELECT c.period_start, {LEVEL} AS last_value FROM used_counters c
    WHERE c.tenant_id = %(tenant_id)s AND c.customer_ref = p.customer_ref AND c.metric = p.metric
      AND c.period_start <= p.start_at AND c.last_value IS NOT NULL
    ORDER BY c.period_start DESC LIMIT 1
) AS latest ON true
ORDER BY 1, 2
"""
STRETCH = 1000

Gauge = tuple[str, str]
FIRST: Gauge = ("", "")


def carry(
    session: Session, tenant_id: str, *, now: datetime, after: Gauge = FIRST
) -> tuple[int, Gauge | None]:
    """Have a stretch of gauges looked at whose present period has heard nothing yet.

    Returns: how many, and `after` of the next stretch; None: there is none.
    """
    parameters = {
        "tenant_id": tenant_id,
        "now": now,
        "after_ref": after[0],
        "after_metric": after[1],
        "most": STRETCH,
    }
    found = session.connection().exec_driver_sql(_GAUGES, parameters).all()
    silent = [
        unsent.Stretch(row.customer_ref, row.metric, row.start_at, row.start_at)
        for row in found
        if row.is_silent
    ]
    unsent.suspect(session, tenant_id, silent, now=now)
    last = found[-1] if len(found) == STRETCH else None
    return len(silent), None if last is None else (last.customer_ref, last.metric)
