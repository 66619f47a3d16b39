"""Complete unique counts that were switched on after events had been folded without them.

The fold adds the members of whatever it folds from then on; this adds the ones before, a day of
event time per transaction. A set does not mind being told twice, so both may overlap.
"""

from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from metering.catalog.models import Metric
from metering.counters import corrections
from metering.counters.aggregation import IS_FOLDED, RESOURCE_KEY
from metering.counters.models import Counter
from metering.database import plan_as_sets
from metering.tenancy import locks

_FILL = f"""
WITH found AS (
    INSERT INTO unique_members (tenant_id, customer_ref, metric, period_start, resource_key)
    SELECT DISTINCT %(tenant_id)s, e.customer_ref, %(metric)s, c.period_start,
           {RESOURCE_KEY.format(resource_id="e.resource_id")}
    FROM events e
    JOIN counters c ON c.tenant_id = %(tenant_id)s AND c.customer_ref = e.customer_ref
        AND c.metric = %(metric)s
        AND c.period_start <= e.occurred_at AND c.period_end > e.occurred_at
    WHERE e.tenant_id = %(tenant_id)s AND e.metric = %(metric)s AND e.resource_id IS NOT NULL
      AND e.occurred_at >= %(start_at)s AND e.occurred_at < %(end_at)s
      AND {IS_FOLDED}
    ON CONFLICT DO NOTHING
    RETURNING customer_ref, period_start
), added AS (
    SELECT customer_ref, period_start, count(*) AS members FROM found GROUP BY 1, 2
)
UPDATE counters c SET unique_count = unique_count + added.members
FROM added
WHERE c.tenant_id = %(tenant_id)s AND c.metric = %(metric)s
  AND c.customer_ref = added.customer_ref AND c.period_start = added.period_start
"""


def fill(session: Session, tenant_id: str, metric: str, *, now: datetime) -> bool:
    """Search one more day of the ledger; False once there is nothing left to search.

    Where the search has come to is kept in the metric's row, so that a killed job goes on there.
    """
    locks.lock(session, tenant_id)
    row = session.scalar(
        select(Metric)
        .where(Metric.tenant_id == tenant_id, Metric.metric == metric)
        .with_for_update()
    )
    if row is None or row.unique_filled_to is None:
        return False
    first, last = _counted_span(session, tenant_id, metric)
    if first is None or last is None or row.unique_filled_to >= last:
        row.unique_filled_to = None
        corrections.refresh_metric(session, tenant_id, metric, now=now)
        return False
    start_at = max(row.unique_filled_to.astimezone(UTC), first)
    end_at = start_at + timedelta(days=1)
    parameters = {
        "tenant_id": tenant_id,
        "metric": metric,
        "start_at": start_at,
        "end_at": end_at,
    }
    plan_as_sets(session)
    session.connection().exec_driver_sql(_FILL, parameters)
    row.unique_filled_to = end_at
    return True


def _counted_span(
    session: Session, tenant_id: str, metric: str
) -> tuple[datetime | None, datetime | None]:
    """From the start of the metric's first counted period to its greatest watermark, exclusive."""
    first, watermark = session.execute(
        select(func.min(Counter.period_start), func.max(Counter.watermark)).where(
            Counter.tenant_id == tenant_id, Counter.metric == metric
        )
    ).one()
    return first, watermark and watermark + timedelta(microseconds=1)
