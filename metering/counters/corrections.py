"""What counts, where somebody has decided something: corrected counters beside the counted ones.

A counter holds what was folded and never what was decided. A voided event stays in it, an approved
one that came too late stays out of it; the corrected rows hold the combination, for each hour and
each period of which something was decided. They follow from the ledger, where its events stand,
and the decisions alone, so that they can be made anew at any time: whoever decides something, or
moves periods, calls `refresh` in the same transaction, under the tenant's lock. What is folded
later is added to them by the fold.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.catalog import period_sql
from metering.catalog.models import Metric
from metering.catalog.period import Span
from metering.counters import unsent_marks
from metering.counters.aggregation import IS_COUNTED, OF_EVENTS, OF_USED, RESOURCE_KEY
from metering.ledger.read import at_key

_APART = timedelta(days=1)


@dataclass(frozen=True)
class _Hour:
    """A segment of which something was decided, and the billing period that it is of."""

    start_at: datetime
    end_at: datetime
    period: Span


def period_at(
    session: Session, tenant_id: str, customer_ref: str, metric: str, instant: datetime
) -> Span:
    """The billing period of a customer's metric that holds the instant."""
    parameters = {
        "tenant_id": tenant_id,
        "customer_ref": customer_ref,
        "metric": metric,
        "instant": instant,
    }
    row = session.connection().exec_driver_sql(_PERIOD, parameters).one()
    return Span(row.start_at.astimezone(UTC), row.end_at.astimezone(UTC))


def refresh(
    session: Session,
    tenant_id: str,
    customer_ref: str,
    metric: str,
    span: Span,
    *,
    now: datetime,
) -> None:
    """Make the corrected rows of a customer's metric anew, and have Stripe hear of them.

    span: whole billing periods. The caller holds the tenant's lock. Of each hour of which something
    was decided the ledger is read, and where unique counts are kept also the period's other events
    on the same resources.
    """
    key: dict[str, Any] = {
        "tenant_id": tenant_id,
        "customer_ref": customer_ref,
        "metric": metric,
        "start_at": span.start_at,
        "end_at": span.end_at,
        "now": now,
    }
    session.flush()
    connection = session.connection()
    touched = set(connection.exec_driver_sql(_SEGMENTS_GONE, key).scalars())
    connection.exec_driver_sql(_COUNTERS_GONE, key)
    connection.exec_driver_sql(_MEMBERS_GONE, key)
    hours = [
        _Hour(row.start_at, row.end_at, Span(row.period_start, row.period_end))
        for row in connection.exec_driver_sql(_DECIDED, key)
    ]
    touched.update(hour.start_at for hour in hours)
    if hours:
        connection.exec_driver_sql(_PLAN)
        _write_segments(session, key, hours)
        periods = sorted({hour.period for hour in hours})
        key["starts"], key["ends"] = [p.start_at for p in periods], [p.end_at for p in periods]
        connection.exec_driver_sql(_COUNTERS, key)
        if _keeps_sets(session, tenant_id, metric):
            for period in periods:
                _write_members(
                    session, key | {"start_at": period.start_at, "end_at": period.end_at}
                )
        connection.exec_driver_sql(_PLAN_AS_USUAL)
    marked = [(customer_ref, metric, at) for at in sorted(touched)]
    unsent_marks.mark(session, tenant_id, marked, now=now)


def _write_segments(session: Session, key: dict[str, Any], hours: Sequence[_Hour]) -> None:
    key["starts"], key["ends"] = [h.start_at for h in hours], [h.end_at for h in hours]
    stretches = list(_stretches(hours))
    key["since"], key["until"] = [s.start_at for s in stretches], [s.end_at for s in stretches]
    session.connection().exec_driver_sql(_SEGMENTS, key)


def _stretches(hours: Sequence[_Hour]) -> Iterator[Span]:
    """Hours less than a day apart are read in one go: each look into the ledger by time costs
    about as much as the few thousand rows that lie beside what it looks for."""
    start_at, end_at = hours[0].start_at, hours[0].end_at
    for hour in hours[1:]:
        if hour.start_at - end_at > _APART:
            yield Span(start_at, end_at)
            start_at = hour.start_at
        end_at = hour.end_at
    yield Span(start_at, end_at)


def _write_members(session: Session, key: dict[str, Any]) -> None:
    connection = session.connection()
    resources = connection.exec_driver_sql(_RESOURCES, key).scalars().all()
    if resources:
        connection.exec_driver_sql(_MEMBERS, key | {"resources": resources})


def refresh_metric(session: Session, tenant_id: str, metric: str, *, now: datetime) -> None:
    """Make all corrected rows of a metric anew: what is kept of it has changed."""
    parameters = {"tenant_id": tenant_id, "metric": metric}
    rows = session.connection().exec_driver_sql(_PERIODS_OF_METRIC, parameters).all()
    for row in rows:
        span = Span(row.period_start, row.period_end)
        refresh(session, tenant_id, row.customer_ref, metric, span, now=now)


def _keeps_sets(session: Session, tenant_id: str, metric: str) -> bool:
    enabled = select(Metric.unique_enabled).where(
        Metric.tenant_id == tenant_id, Metric.metric == metric
    )
    return bool(session.scalar(enabled))


# Where an event stands is asked by its key, in tables of which any may be large: joined as sets, a
# backlog of a million events would be read to void one.
_PLAN = """
SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
       set_config('jit', 'off', true), set_config('plan_cache_mode', 'force_custom_plan', true)
"""
_PLAN_AS_USUAL = """
SELECT set_config('enable_hashjoin', 'on', true), set_config('enable_mergejoin', 'on', true),
       set_config('plan_cache_mode', 'auto', true)
"""

_MINE = "customer_ref = %(customer_ref)s AND metric = %(metric)s"

_PERIOD = f"""
WITH drawn AS MATERIALIZED (
    SELECT {period_sql.begun("%(customer_ref)s", "%(metric)s", "%(instant)s::timestamptz")}
           AS begun
)
SELECT {period_sql.start("begun", "%(instant)s::timestamptz")} AS start_at,
       {period_sql.end("begun", "%(customer_ref)s", "%(metric)s", "%(instant)s::timestamptz")}
           AS end_at
FROM drawn
"""

_SEGMENTS_GONE = f"""
DELETE FROM corrected_segments
WHERE tenant_id = %(tenant_id)s AND {_MINE}
  AND segment_start >= %(start_at)s AND segment_start < %(end_at)s
RETURNING segment_start
"""
_COUNTERS_GONE = f"""
DELETE FROM corrected_counters
WHERE tenant_id = %(tenant_id)s AND {_MINE}
  AND period_start >= %(start_at)s AND period_start < %(end_at)s
"""
_MEMBERS_GONE = f"""
DELETE FROM corrected_members
WHERE tenant_id = %(tenant_id)s AND {_MINE}
  AND period_start >= %(start_at)s AND period_start < %(end_at)s
"""

# The events of which something was decided, each by its key.
_NAMED = f"""
named AS MATERIALIZED (
    SELECT e.occurred_at, e.resource_id
    FROM (
        SELECT v.idempotency_key FROM voids v
        WHERE v.tenant_id = %(tenant_id)s AND v.customer_ref = %(customer_ref)s
          AND v.metric = %(metric)s
          AND v.occurred_at >= %(start_at)s AND v.occurred_at < %(end_at)s
        UNION
        SELECT a.idempotency_key
        FROM set_aside a
        JOIN adjustments j ON j.tenant_id = %(tenant_id)s AND j.adjustment_id = a.adjustment_id
            AND j.status = 'approved' AND j.disposition = 'apply'
        WHERE a.tenant_id = %(tenant_id)s AND a.customer_ref = %(customer_ref)s
          AND a.metric = %(metric)s
          AND a.period_start >= %(start_at)s AND a.period_start < %(end_at)s
    ) AS keys
    CROSS JOIN LATERAL (
        SELECT occurred_at, resource_id FROM events
        WHERE tenant_id = %(tenant_id)s AND {at_key("keys.idempotency_key")}
    ) AS e
)
"""
# What an approved adjustment adds as a number counts in the hour that it names: in its own
# period's, or where it is carried forward in a later one's.
_DELTAS = """
    SELECT j.segment_start, coalesce(j.carried, j.delta) AS delta FROM adjustments j
    WHERE j.tenant_id = %(tenant_id)s AND j.customer_ref = %(customer_ref)s
      AND j.metric = %(metric)s
      AND j.segment_start >= %(start_at)s AND j.segment_start < %(end_at)s
      AND j.status = 'approved' AND j.disposition IN ('apply', 'carry_forward')
"""
_HOUR = "date_trunc('hour', at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'"
_DECIDED = f"""
WITH {_NAMED}, instants AS (
    SELECT occurred_at AS at FROM named UNION SELECT segment_start FROM ({_DELTAS}) AS d
), hours AS MATERIALIZED (
    SELECT at, {_HOUR} AS hour, {period_sql.begun("%(customer_ref)s", "%(metric)s", "at")} AS begun
    FROM instants
), placed AS (
    SELECT hour, {period_sql.start("begun", "at")} AS period_start,
           {period_sql.end("begun", "%(customer_ref)s", "%(metric)s", "at")} AS period_end
    FROM hours
)
SELECT DISTINCT greatest(hour, period_start) AS start_at,
       least(hour + interval '1 hour', period_end) AS end_at, period_start, period_end
FROM placed
ORDER BY 1
"""
# width_bucket finds the event's hour among those decided by halving, and no join is needed.
_SEGMENTS = f"""
WITH near AS MATERIALIZED (
    SELECT e.*, width_bucket(e.occurred_at, %(starts)s::timestamptz[]) AS number
    FROM unnest(%(since)s::timestamptz[], %(until)s::timestamptz[]) AS stretch (since, until)
    CROSS JOIN LATERAL (
        SELECT idempotency_key, quantity, occurred_at, recorded_at FROM events
        WHERE tenant_id = %(tenant_id)s AND customer_ref = %(customer_ref)s
          AND metric = %(metric)s
          AND occurred_at >= stretch.since AND occurred_at < stretch.until
        OFFSET 0
    ) AS e
), counted AS MATERIALIZED (
    SELECT e.number, {OF_EVENTS}
    FROM near e
    WHERE e.occurred_at < (%(ends)s::timestamptz[])[e.number] AND {IS_COUNTED}
    GROUP BY 1
), added AS (
    SELECT width_bucket(d.segment_start, %(starts)s::timestamptz[]) AS number,
           sum(d.delta) AS delta
    FROM ({_DELTAS}) AS d GROUP BY 1
), parts AS (
    SELECT number, event_count, sum_value, max_value, last_value, last_occurred_at, last_key,
           0 AS delta
    FROM counted
    UNION ALL SELECT number, 0, 0, NULL, NULL, NULL, NULL, delta FROM added
    UNION ALL SELECT generate_subscripts(%(starts)s::timestamptz[], 1), 0, 0, NULL, NULL, NULL,
                     NULL, 0
)
INSERT INTO corrected_segments (tenant_id, customer_ref, metric, segment_start, event_count,
                                sum_value, max_value, last_value, last_occurred_at, last_key, delta)
SELECT %(tenant_id)s, %(customer_ref)s, %(metric)s, (%(starts)s::timestamptz[])[number],
       sum(event_count), sum(sum_value), max(max_value), max(last_value), max(last_occurred_at),
       max(last_key), sum(delta)
FROM parts GROUP BY number
"""
_COUNTERS = f"""
INSERT INTO corrected_counters (tenant_id, customer_ref, metric, period_start, period_end,
                                event_count, sum_value, max_value, last_value, last_occurred_at,
                                last_key, delta, corrected_at)
SELECT %(tenant_id)s, %(customer_ref)s, %(metric)s, p.start_at, p.end_at, c.event_count,
       c.sum_value, c.max_value, c.last_value, c.last_occurred_at, c.last_key, c.delta, %(now)s
FROM unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[]) AS p (start_at, end_at)
CROSS JOIN LATERAL (
    SELECT {OF_USED} FROM used_segments s
    WHERE s.tenant_id = %(tenant_id)s AND s.customer_ref = %(customer_ref)s
      AND s.metric = %(metric)s AND s.segment_start >= p.start_at AND s.segment_start < p.end_at
    OFFSET 0
) AS c
"""
_RESOURCES = f"""
WITH {_NAMED} SELECT DISTINCT resource_id FROM named WHERE resource_id IS NOT NULL
"""
# The resources stand in the statement: only then are they looked up by a hash, row by row.
_MEMBERS = f"""
WITH near AS MATERIALIZED (
    SELECT idempotency_key, resource_id, recorded_at FROM events
    WHERE tenant_id = %(tenant_id)s AND customer_ref = %(customer_ref)s AND metric = %(metric)s
      AND occurred_at >= %(start_at)s AND occurred_at < %(end_at)s
      AND resource_id = ANY(%(resources)s::text[])
), parts AS (
    SELECT {RESOURCE_KEY.format(resource_id="e.resource_id")} AS resource_key, true AS is_counted
    FROM near e WHERE {IS_COUNTED}
    UNION ALL
    SELECT {RESOURCE_KEY.format(resource_id="named.resource_id")}, false
    FROM unnest(%(resources)s::text[]) AS named (resource_id)
), judged AS MATERIALIZED (
    SELECT resource_key, bool_or(is_counted) AS is_counted FROM parts GROUP BY 1
)
INSERT INTO corrected_members (tenant_id, customer_ref, metric, period_start, resource_key,
                               is_counted)
SELECT %(tenant_id)s, %(customer_ref)s, %(metric)s, %(start_at)s, resource_key, is_counted
FROM judged j
WHERE is_counted <> EXISTS (
    SELECT 1 FROM unique_members m
    WHERE m.tenant_id = %(tenant_id)s AND m.customer_ref = %(customer_ref)s
      AND m.metric = %(metric)s AND m.period_start = %(start_at)s
      AND m.resource_key = j.resource_key)
"""

_PERIODS_OF_METRIC = """
SELECT customer_ref, period_start, period_end FROM corrected_counters
WHERE tenant_id = %(tenant_id)s AND metric = %(metric)s
ORDER BY customer_ref, period_start
"""
