"""Counters as their segments have them. The caller holds the tenant's lock."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from metering.counters.doubts import Place
from metering.counters.located import PeriodKey, columns

_REMOVE_COUNTERS = """
DELETE FROM counters WHERE tenant_id = %(tenant_id)s AND ctid = ANY (ARRAY(
    SELECT c.ctid
    FROM unnest(%(refs)s::text[], %(metrics)s::text[], %(ats)s::timestamptz[])
        AS w (customer_ref, metric, at)
    CROSS JOIN LATERAL (
        SELECT ctid FROM counters
        WHERE tenant_id = %(tenant_id)s AND customer_ref = w.customer_ref
          AND metric = w.metric AND period_start = w.at
        OFFSET 0
    ) AS c))
RETURNING customer_ref, metric, period_start
"""


# The hours of a counter follow each other: the last of them holds its latest event. What lay behind
# the watermark when it was folded is history, and stays.
_COUNTERS = """
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest(%(refs)s::text[], %(metrics)s::text[], %(ats)s::timestamptz[],
                         %(ends)s::timestamptz[]) AS w (customer_ref, metric, at, end_at)
), computed AS MATERIALIZED (
    SELECT w.customer_ref, w.metric, w.at AS period_start, w.end_at AS period_end,
           whole.event_count, whole.sum_value, whole.max_value, latest.last_value,
           latest.last_occurred_at, latest.last_key, seen.members
    FROM wanted w
    CROSS JOIN LATERAL (
        SELECT sum(s.event_count)::bigint AS event_count, sum(s.sum_value) AS sum_value,
               max(s.max_value) AS max_value
        FROM segments s
        WHERE s.tenant_id = %(tenant_id)s AND s.customer_ref = w.customer_ref
          AND s.metric = w.metric AND s.segment_start >= w.at AND s.segment_start < w.end_at
        OFFSET 0
    ) AS whole
    CROSS JOIN LATERAL (
        SELECT s.last_value, s.last_occurred_at, s.last_key FROM segments s
        WHERE s.tenant_id = %(tenant_id)s AND s.customer_ref = w.customer_ref
          AND s.metric = w.metric AND s.segment_start >= w.at AND s.segment_start < w.end_at
        ORDER BY s.segment_start DESC LIMIT 1
    ) AS latest
    CROSS JOIN LATERAL (
        SELECT count(*) AS members FROM unique_members m
        WHERE m.tenant_id = %(tenant_id)s AND m.customer_ref = w.customer_ref
          AND m.metric = w.metric AND m.period_start = w.at
        OFFSET 0
    ) AS seen
), gone AS (
    DELETE FROM counters WHERE tenant_id = %(tenant_id)s AND ctid = ANY (ARRAY(
        SELECT c.ctid FROM wanted w
        CROSS JOIN LATERAL (
            SELECT ctid FROM counters
            WHERE tenant_id = %(tenant_id)s AND customer_ref = w.customer_ref
              AND metric = w.metric AND period_start = w.at
            OFFSET 0
        ) AS c
        WHERE NOT EXISTS (SELECT 1 FROM computed n WHERE n.customer_ref = w.customer_ref
                          AND n.metric = w.metric AND n.period_start = w.at)))
    RETURNING customer_ref, metric, period_start
), written AS (
    INSERT INTO counters AS c (tenant_id, customer_ref, metric, period_start, period_end,
                               event_count, sum_value, max_value, last_value, last_occurred_at,
                               last_key, unique_count, watermark, folded_at)
    SELECT %(tenant_id)s, n.customer_ref, n.metric, n.period_start, n.period_end, n.event_count,
           n.sum_value, n.max_value, n.last_value, n.last_occurred_at, n.last_key, n.members,
           n.last_occurred_at, %(now)s
    FROM computed n ORDER BY n.customer_ref, n.metric, n.period_start
    ON CONFLICT (tenant_id, customer_ref, metric, period_start) DO UPDATE SET
        period_end = excluded.period_end, event_count = excluded.event_count,
        sum_value = excluded.sum_value, max_value = excluded.max_value,
        last_value = excluded.last_value,
        last_occurred_at = excluded.last_occurred_at, last_key = excluded.last_key,
        unique_count = excluded.unique_count, watermark = excluded.watermark,
        folded_at = excluded.folded_at
    WHERE (c.period_end, c.event_count, c.sum_value, c.max_value, c.last_value,
           c.last_occurred_at, c.last_key, c.unique_count, c.watermark)
        IS DISTINCT FROM (excluded.period_end, excluded.event_count, excluded.sum_value,
            excluded.max_value, excluded.last_value, excluded.last_occurred_at,
            excluded.last_key, excluded.unique_count, excluded.watermark)
    RETURNING c.customer_ref, c.metric, c.period_start
)
SELECT * FROM gone UNION ALL SELECT * FROM written
"""


def remove(session: Session, tenant_id: str, places: Sequence[Place]) -> list[Place]:
    """Remove counters that begin where no period does. Returns: those that there were."""
    if not places:
        return []
    parameters = {"tenant_id": tenant_id} | columns(places)
    rows = session.connection().exec_driver_sql(_REMOVE_COUNTERS, parameters)
    return [Place(*row) for row in rows]


def mend(
    session: Session, tenant_id: str, periods: Sequence[PeriodKey], *, now: datetime
) -> list[Place]:
    """Put the counters of these periods together anew. Returns: those that were wrong."""
    if not periods:
        return []
    parameters = {
        "tenant_id": tenant_id,
        "ends": [period.span.end_at for period in periods],
        "now": now,
        **columns([Place(p.customer_ref, p.metric, p.span.start_at) for p in periods]),
    }
    rows = session.connection().exec_driver_sql(_COUNTERS, parameters)
    return [Place(*row) for row in rows]
