"""Which resources the ledger names in a period, and `unique_members` does not; and the reverse."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from metering.catalog import period_sql
from metering.catalog.period import Span
from metering.counters.aggregation import RESOURCE_KEY
from metering.counters.doubts import Scope, asked, of_ledger, plan, run


@dataclass(frozen=True, order=True)
class Member:
    """A resource of a customer's metric in the period that begins so."""

    customer_ref: str
    metric: str
    period_start: datetime
    resource_key: str


_KEEPING_UNIQUE = """
SELECT m.metric FROM metrics m
WHERE m.tenant_id = %(tenant_id)s AND m.unique_enabled
  AND (%(metrics)s::text[] IS NULL OR m.metric = ANY(%(metrics)s::text[]))
ORDER BY 1
"""
# A period is looked up once for each segment of a stretch, not for each event.
_MISSING = f"""
WITH {{cuts}} named AS MATERIALIZED (
    SELECT DISTINCT e.customer_ref, e.metric, {{segment_start}} AS segment_start,
           {RESOURCE_KEY.format(resource_id="e.resource_id")} AS resource_key
    FROM events e {{cut}}
    WHERE e.tenant_id = %(tenant_id)s AND {asked("e")} AND e.resource_id IS NOT NULL
      AND e.occurred_at >= %(start_at)s AND e.occurred_at < %(end_at)s {{apart}}
), begun AS MATERIALIZED (
    SELECT n.*, {period_sql.begun("n.customer_ref", "n.metric", "n.segment_start")} AS begun
    FROM (SELECT DISTINCT customer_ref, metric, segment_start FROM named) AS n
), placed AS MATERIALIZED (
    SELECT b.customer_ref, b.metric, b.segment_start,
           {period_sql.start("b.begun", "b.segment_start")} AS period_start
    FROM begun b
)
SELECT DISTINCT n.customer_ref, n.metric, p.period_start, n.resource_key
FROM named n
JOIN placed p ON p.customer_ref = n.customer_ref AND p.metric = n.metric
    AND p.segment_start = n.segment_start
WHERE NOT EXISTS (
    SELECT 1 FROM unique_members m
    WHERE m.tenant_id = %(tenant_id)s AND m.customer_ref = n.customer_ref
      AND m.metric = n.metric AND m.period_start = p.period_start
      AND m.resource_key = n.resource_key)
"""


def keeping(session: Session, scope: Scope) -> tuple[str, ...]:
    """Those of the metrics of which it is kept which resources were seen."""
    return tuple(run(session, _KEEPING_UNIQUE, scope.parameters()).scalars())


def missing(session: Session, scope: Scope, span: Span) -> list[Member]:
    """Resources that events of the stretch name, and no member does. scope: `keeping`."""
    parameters = scope.parameters() | {"start_at": span.start_at, "end_at": span.end_at}
    plan(session)
    rows = of_ledger(session, _MISSING, parameters)
    return [Member(*row) for row in rows]


# An event that waits, or a dead letter that may be sent again, is as good a reason as a folded one.
_SUPERFLUOUS = f"""
WITH begun AS MATERIALIZED (
    SELECT m.customer_ref, m.metric, m.period_start,
           {period_sql.begun("m.customer_ref", "m.metric", "m.period_start")} AS begun
    FROM (SELECT DISTINCT m.customer_ref, m.metric, m.period_start FROM unique_members m
          WHERE m.tenant_id = %(tenant_id)s AND {asked("m")}
            AND m.period_start >= %(start_at)s AND m.period_start < %(end_at)s) AS m
), periods_of AS MATERIALIZED (
    SELECT b.customer_ref, b.metric, b.period_start,
           {period_sql.end("b.begun", "b.customer_ref", "b.metric", "b.period_start")} AS period_end
    FROM begun b
), whole AS MATERIALIZED (
    SELECT p.*, max(p.period_end) OVER () AS reach FROM periods_of p
)
SELECT m.customer_ref, m.metric, m.period_start, m.resource_key
FROM unique_members m
JOIN whole w ON w.customer_ref = m.customer_ref AND w.metric = m.metric
    AND w.period_start = m.period_start
WHERE m.tenant_id = %(tenant_id)s
  AND NOT EXISTS (
      SELECT 1 FROM events e
      WHERE e.tenant_id = %(tenant_id)s AND e.customer_ref = m.customer_ref
        AND e.metric = m.metric AND e.resource_id IS NOT NULL
        AND {RESOURCE_KEY.format(resource_id="e.resource_id")} = m.resource_key
        AND e.occurred_at >= %(start_at)s AND e.occurred_at < (SELECT max(reach) FROM whole)
        AND e.occurred_at >= w.period_start AND e.occurred_at < w.period_end
        AND NOT EXISTS (SELECT 1 FROM set_aside a WHERE a.tenant_id = %(tenant_id)s
            AND a.idempotency_key = e.idempotency_key))
"""


def superfluous(session: Session, scope: Scope, span: Span) -> list[Member]:
    """Members that no event of their period names, of all periods that begin in the span.

    scope: `keeping`.
    """
    parameters = scope.parameters() | {"start_at": span.start_at, "end_at": span.end_at}
    plan(session)
    return [Member(*row) for row in run(session, _SUPERFLUOUS, parameters)]
