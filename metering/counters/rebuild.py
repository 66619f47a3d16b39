"""Recompute counters from the ledger, for when they are doubted or an aggregate is new.

What is computed is `ledger - unfolded - set aside - dead letters`, under the tenant's lock: an
event that is still waiting is left to the fold, so that nothing is counted twice or lost.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from metering.catalog import period_sql
from metering.catalog.period import Span
from metering.counters.aggregation import IS_FOLDED, OF_EVENTS, OF_PARTS
from metering.database import plan_as_sets
from metering.errors import InvalidInputError
from metering.tenancy import locks


@dataclass(frozen=True)
class Rebuilt:
    """How many rows had to be changed; zeros mean that everything was right."""

    segments: int
    counters: int


# Only rows that differ from what was computed are touched.
_SEGMENTS = f"""
WITH folded AS MATERIALIZED (
    SELECT e.idempotency_key, e.customer_ref, e.quantity, e.occurred_at,
           {period_sql.begun("e.customer_ref", "%(metric)s", "e.occurred_at")} AS begun
    FROM events e
    WHERE e.tenant_id = %(tenant_id)s AND e.metric = %(metric)s
      AND e.occurred_at >= %(start_at)s AND e.occurred_at < %(end_at)s
      AND {IS_FOLDED}
), computed AS MATERIALIZED (
    SELECT e.customer_ref,
           greatest(date_trunc('hour', e.occurred_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC',
                    {period_sql.start("e.begun", "e.occurred_at")}) AS segment_start,
           {OF_EVENTS}
    FROM folded e
    GROUP BY 1, 2
), gone AS (
    DELETE FROM segments s
    WHERE s.tenant_id = %(tenant_id)s AND s.metric = %(metric)s
      AND s.segment_start >= %(start_at)s AND s.segment_start < %(end_at)s
      AND NOT EXISTS (SELECT 1 FROM computed c WHERE c.customer_ref = s.customer_ref
                      AND c.segment_start = s.segment_start)
    RETURNING s.customer_ref, s.segment_start
), written AS (
    INSERT INTO segments AS s (tenant_id, customer_ref, metric, segment_start, event_count,
                               sum_value, max_value, last_value, last_occurred_at, last_key)
    SELECT %(tenant_id)s, customer_ref, %(metric)s, segment_start, event_count,
           sum_value, max_value, last_value, last_occurred_at, last_key
    FROM computed ORDER BY customer_ref, segment_start
    ON CONFLICT (tenant_id, customer_ref, metric, segment_start) DO UPDATE SET
        event_count = excluded.event_count, sum_value = excluded.sum_value,
        max_value = excluded.max_value, last_value = excluded.last_value,
        last_occurred_at = excluded.last_occurred_at, last_key = excluded.last_key
    WHERE (s.event_count, s.sum_value, s.max_value, s.last_value, s.last_occurred_at, s.last_key)
        IS DISTINCT FROM (excluded.event_count, excluded.sum_value, excluded.max_value,
            excluded.last_value, excluded.last_occurred_at, excluded.last_key)
    RETURNING s.customer_ref, s.segment_start
)
SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM written)
"""

# Counters of the periods that the span touches, put together from all their segments. `reach` is
# as far as any of these periods goes; the segments in it that belong to others are left out again.
_COUNTERS = f"""
WITH reach AS MATERIALIZED (
    SELECT least({period_sql.month("%(start_at)s::timestamptz")}, min(start_at)) AS start_at,
           greatest({period_sql.month_after("%(last_at)s::timestamptz")}, max(end_at)) AS end_at
    FROM billing_periods
    WHERE tenant_id = %(tenant_id)s AND metric = %(metric)s
      AND start_at <= %(last_at)s AND end_at > %(start_at)s
), placed AS MATERIALIZED (
    SELECT s.*, {period_sql.begun("s.customer_ref", "%(metric)s", "s.segment_start")} AS begun
    FROM segments s
    WHERE s.tenant_id = %(tenant_id)s AND s.metric = %(metric)s
      AND s.segment_start >= (SELECT start_at FROM reach)
      AND s.segment_start < (SELECT end_at FROM reach)
), bounded AS MATERIALIZED (
    SELECT p.*, {period_sql.start("p.begun", "p.segment_start")} AS period_start,
           {period_sql.end("p.begun", "p.customer_ref", "%(metric)s", "p.segment_start")}
               AS period_end
    FROM placed p
), computed AS MATERIALIZED (
    SELECT s.customer_ref, s.period_start, s.period_end, {OF_PARTS}
    FROM bounded s
    WHERE s.period_start <= %(last_at)s AND s.period_end > %(start_at)s
    GROUP BY 1, 2, 3
), members AS MATERIALIZED (
    SELECT customer_ref, period_start, count(*) AS members
    FROM unique_members
    WHERE tenant_id = %(tenant_id)s AND metric = %(metric)s
    GROUP BY 1, 2
), gone AS (
    DELETE FROM counters c
    WHERE c.tenant_id = %(tenant_id)s AND c.metric = %(metric)s
      AND c.period_start <= %(last_at)s AND c.period_end > %(start_at)s
      AND NOT EXISTS (SELECT 1 FROM computed n WHERE n.customer_ref = c.customer_ref
                      AND n.period_start = c.period_start)
    RETURNING 1
), written AS (
    INSERT INTO counters AS c (tenant_id, customer_ref, metric, period_start, period_end,
                               event_count, sum_value, max_value, last_value, last_occurred_at,
                               last_key, unique_count, watermark, folded_at)
    SELECT %(tenant_id)s, n.customer_ref, %(metric)s, n.period_start, n.period_end, n.event_count,
           n.sum_value, n.max_value, n.last_value, n.last_occurred_at, n.last_key,
           coalesce(m.members, 0), n.last_occurred_at, %(now)s
    FROM computed n LEFT JOIN members m USING (customer_ref, period_start)
    ORDER BY n.customer_ref, n.period_start
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
    RETURNING 1
)
SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM written)
"""


def rebuild(session: Session, tenant_id: str, metric: str, span: Span, *, now: datetime) -> Rebuilt:
    """Make the metric's segments of a span, and the counters of its periods, what they should be.

    span: whole UTC hours; a day of 50,000 events takes well under the second that a tenant may
          stay locked. A longer stretch is rebuilt day by day, one transaction each.
    Running it again changes nothing.
    """
    for instant in (span.start_at, span.end_at):
        if (instant.minute, instant.second, instant.microsecond) != (0, 0, 0):
            raise InvalidInputError("counters are rebuilt by whole hours")
    locks.lock(session, tenant_id)
    plan_as_sets(session)
    connection = session.connection()
    parameters = {
        "tenant_id": tenant_id,
        "metric": metric,
        "start_at": span.start_at,
        "end_at": span.end_at,
        "last_at": span.end_at - timedelta(microseconds=1),
        "now": now,
    }
    segments = connection.exec_driver_sql(_SEGMENTS, parameters).scalar_one()
    counters = connection.exec_driver_sql(_COUNTERS, parameters).scalar_one()
    return Rebuilt(segments=segments, counters=counters)
