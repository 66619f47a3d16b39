"""Which counters are not the combination of their segments, and what is open or late at all."""

from datetime import datetime

from sqlalchemy.orm import Session

from metering.catalog import period_sql
from metering.catalog.period import Span
from metering.counters.doubts import Difference, Place, Scope, asked, run

# Counters in the order of their keys, each against its hours. The hours follow each other, so the
# last of them holds the latest event.
_COUNTERS = f"""
WITH page AS MATERIALIZED (
    SELECT c.* FROM counters c
    WHERE c.tenant_id = %(tenant_id)s AND {asked("c")}
      AND (c.customer_ref, c.metric, c.period_start)
          > (%(after_ref)s::text, %(after_metric)s::text, %(after_at)s::timestamptz)
      AND c.period_start < %(end_at)s AND c.period_end > %(start_at)s
    ORDER BY c.customer_ref, c.metric, c.period_start LIMIT %(most)s
), dated AS MATERIALIZED (
    SELECT p.*, {period_sql.begun("p.customer_ref", "p.metric", "p.period_start")} AS begun
    FROM page p
)
SELECT p.customer_ref, p.metric, p.period_start,
       coalesce(whole.event_count, 0) - p.event_count AS events,
       coalesce(whole.sum_value, 0) - p.sum_value AS quantity,
       (p.event_count, p.sum_value, p.max_value, p.unique_count, p.watermark,
        p.last_occurred_at, p.last_key, p.last_value, p.period_start, p.period_end)
       IS NOT DISTINCT FROM
       (whole.event_count, whole.sum_value, whole.max_value, seen.members, latest.last_occurred_at,
        latest.last_occurred_at, latest.last_key, latest.last_value,
        {period_sql.start("p.begun", "p.period_start")},
        {period_sql.end("p.begun", "p.customer_ref", "p.metric", "p.period_start")}) AS is_right
FROM dated p
CROSS JOIN LATERAL (
    SELECT sum(s.event_count)::bigint AS event_count, sum(s.sum_value) AS sum_value,
           max(s.max_value) AS max_value
    FROM segments s
    WHERE s.tenant_id = %(tenant_id)s AND s.customer_ref = p.customer_ref
      AND s.metric = p.metric AND s.segment_start >= p.period_start
      AND s.segment_start < p.period_end
    OFFSET 0
) AS whole
LEFT JOIN LATERAL (
    SELECT s.last_occurred_at, s.last_key, s.last_value FROM segments s
    WHERE s.tenant_id = %(tenant_id)s AND s.customer_ref = p.customer_ref
      AND s.metric = p.metric AND s.segment_start >= p.period_start
      AND s.segment_start < p.period_end
    ORDER BY s.segment_start DESC LIMIT 1
) AS latest ON true
CROSS JOIN LATERAL (
    SELECT count(*) AS members FROM unique_members m
    WHERE m.tenant_id = %(tenant_id)s AND m.customer_ref = p.customer_ref
      AND m.metric = p.metric AND m.period_start = p.period_start
    OFFSET 0
) AS seen
ORDER BY 1, 2, 3
"""


def of_counters(
    session: Session, scope: Scope, span: Span, after: Place | None, *, most: int
) -> tuple[dict[Place, Difference], Place | None]:
    """Compare the counters of periods that touch the span with the combination of their segments.

    after: the last counter (by its period's start) of the page before; None: from the first on.
    Returns: those that differ, and where the next page begins; None after the last.
    """
    parameters = scope.parameters() | {
        "start_at": span.start_at,
        "end_at": span.end_at,
        "after_ref": after.customer_ref if after else "",
        "after_metric": after.metric if after else "",
        "after_at": after.at if after else span.start_at,
        "most": most,
    }
    rows = run(session, _COUNTERS, parameters).all()
    found = {
        Place(row.customer_ref, row.metric, row.period_start): Difference(row.events, row.quantity)
        for row in rows
        if not row.is_right
    }
    if len(rows) < most:
        return found, None
    return found, Place(rows[-1].customer_ref, rows[-1].metric, rows[-1].period_start)


_LATE = f"""
SELECT a.metric, count(*) AS events
FROM (SELECT a.idempotency_key, a.metric FROM set_aside a
      WHERE a.tenant_id = %(tenant_id)s AND {asked("a")} AND a.period_start < %(end_at)s) AS a
CROSS JOIN LATERAL (
    SELECT occurred_at FROM events
    WHERE tenant_id = %(tenant_id)s AND idempotency_key = a.idempotency_key OFFSET 0
) AS e
WHERE e.occurred_at >= %(start_at)s AND e.occurred_at < %(end_at)s
GROUP BY 1
"""


def late_events(session: Session, scope: Scope, span: Span) -> dict[str, int]:
    """How many events of the span are set aside, by metric."""
    parameters = scope.parameters() | {"start_at": span.start_at, "end_at": span.end_at}
    return {row.metric: row.events for row in run(session, _LATE, parameters)}


_OLDEST_OPEN = f"""
SELECT min(c.period_start) FROM counters c
LEFT JOIN billing_periods b ON b.tenant_id = %(tenant_id)s AND b.customer_ref = c.customer_ref
    AND b.metric = c.metric AND b.start_at = c.period_start
LEFT JOIN periods p ON p.tenant_id = %(tenant_id)s AND p.schedule = 'calendar'
    AND p.start_at = {period_sql.month("c.period_start")}
WHERE c.tenant_id = %(tenant_id)s AND {asked("c")}
  AND CASE WHEN b.tenant_id IS NULL THEN p.closed_at IS NULL
           ELSE b.closed_at IS NULL AND b.final_at IS NULL END
"""


def oldest_open(session: Session, scope: Scope) -> datetime | None:
    """The start of the oldest counted period that is not closed."""
    found: datetime | None = run(session, _OLDEST_OPEN, scope.parameters()).scalar()
    return found
