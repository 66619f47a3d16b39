"""What was used: the one place where a shown number comes from, with its `as_of`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from metering.catalog.period import Span, calendar_month
from metering.counters.aggregation import reading
from metering.counters.models import Counter

# How far the backlog is searched for one customer's share of it.
BACKLOG_SEARCHED = 200


@dataclass(frozen=True)
class MetricUsage:
    """One metric of one customer in one billing period.

    value: by the metric's own aggregation.  watermark: None while nothing is counted yet.
    unfolded: events received and not yet counted, of whatever period.
    unique_complete: False while a freshly switched-on unique count is still being completed.
    since_period: the start of the first period in which anything of it was counted.
    """

    metric: str
    value: Decimal
    aggregation: str
    display_name: str | None
    unit: str | None
    lateness_seconds: int
    span: Span
    watermark: datetime | None
    event_count: int
    set_aside: int
    unfolded: int
    unique_complete: bool
    since_period: datetime | None
    sum_value: Decimal
    max_value: Decimal
    last_value: Decimal
    unique_count: int

    def read_by(self, aggregation: str | None) -> "MetricUsage":
        """The same usage by another aggregation; None: by the metric's own."""
        if aggregation in (None, self.aggregation):
            return self
        value = reading(aggregation, self, self.unique_count)
        return replace(self, aggregation=aggregation, value=value)


@dataclass(frozen=True)
class Backlog:
    """A customer's events that are received and not yet counted, of whatever period.

    latest_at: the greatest occurred_at among them.
    is_lower_bound: the tenant's backlog was too long to be searched to its end.
    """

    by_metric: dict[str, int]
    latest_at: datetime | None
    is_lower_bound: bool

    @property
    def events(self) -> int:
        return sum(self.by_metric.values())


@dataclass(frozen=True)
class Usage:
    """A customer's usage at an instant. as_of: all received before it is in the numbers."""

    metrics: Sequence[MetricUsage]
    as_of: datetime
    folded_at: datetime | None
    backlog: Backlog


def as_of(session: Session, tenant_id: str, *, now: datetime) -> datetime:
    """The instant up to which the tenant's numbers are complete."""
    oldest = session.connection().exec_driver_sql(
        "SELECT min(recorded_at) FROM unfolded WHERE tenant_id = %(tenant_id)s",
        {"tenant_id": tenant_id},
    )
    return oldest.scalar() or now


# One statement, for this is asked at every look at a widget. Metrics come first: few, and each
# finds its counter by primary key. What came too late for good is no usage, but whoever looks for
# it must find its metric.
_OF_CUSTOMER = """
SELECT waiting.since, used.*
FROM (SELECT min(recorded_at) AS since FROM unfolded WHERE tenant_id = %(tenant_id)s) AS waiting
LEFT JOIN (
    SELECT m.metric, m.aggregation, m.display_name, m.unit, m.lateness_seconds,
           m.unique_filled_to IS NULL AS unique_complete,
           c.event_count, c.sum_value, c.max_value, c.last_value, c.unique_count, c.watermark,
           c.folded_at, coalesce(aside.events, 0) AS set_aside,
           (SELECT min(f.period_start) FROM counters f
            WHERE f.tenant_id = %(tenant_id)s AND f.customer_ref = %(customer_ref)s
              AND f.metric = m.metric) AS since_period
    FROM metrics m
    LEFT JOIN counters c ON c.tenant_id = %(tenant_id)s AND c.customer_ref = %(customer_ref)s
        AND c.metric = m.metric AND c.period_start = %(period_start)s
    LEFT JOIN (
        SELECT metric, count(*) AS events FROM set_aside
        WHERE tenant_id = %(tenant_id)s AND customer_ref = %(customer_ref)s
          AND period_start = %(period_start)s
        GROUP BY metric
    ) AS aside ON aside.metric = m.metric
    WHERE m.tenant_id = %(tenant_id)s AND (c.metric IS NOT NULL OR aside.events > 0)
) AS used ON true
ORDER BY used.metric
"""


def of_customer(
    session: Session, tenant_id: str, customer_ref: str, span: Span, *, now: datetime
) -> Usage:
    """What the customer has used in the billing period that is exactly `span`."""
    parameters = {
        "tenant_id": tenant_id,
        "customer_ref": customer_ref,
        "period_start": span.start_at,
    }
    rows = session.connection().exec_driver_sql(_OF_CUSTOMER, parameters).all()
    since = rows[0].since
    backlog = _NO_BACKLOG if since is None else _backlog(session, tenant_id, customer_ref)
    used = [row for row in rows if row.metric is not None]
    return Usage(
        metrics=[_metric_usage(row, span, backlog) for row in used],
        as_of=since or now,
        folded_at=max((row.folded_at for row in used if row.folded_at), default=None),
        backlog=backlog,
    )


def _metric_usage(row: Any, span: Span, backlog: Backlog) -> MetricUsage:
    is_counted = row.watermark is not None
    return MetricUsage(
        metric=row.metric,
        value=reading(row.aggregation, row, row.unique_count) if is_counted else Decimal(0),
        aggregation=row.aggregation,
        display_name=row.display_name,
        unit=row.unit,
        lateness_seconds=row.lateness_seconds,
        span=span,
        watermark=row.watermark,
        event_count=row.event_count or 0,
        set_aside=row.set_aside,
        unfolded=backlog.by_metric.get(row.metric, 0),
        unique_complete=row.unique_complete,
        since_period=row.since_period,
        sum_value=row.sum_value or Decimal(0),
        max_value=row.max_value or Decimal(0),
        last_value=row.last_value or Decimal(0),
        unique_count=row.unique_count or 0,
    )


def latest_period(
    session: Session, tenant_id: str, customer_ref: str, backlog: Backlog
) -> Span | None:
    """The last billing period in which the customer used anything, counted or still waiting."""
    row = session.execute(
        select(Counter.period_start, Counter.period_end)
        .where(Counter.tenant_id == tenant_id, Counter.customer_ref == customer_ref)
        .order_by(Counter.period_start.desc())
        .limit(1)
    ).first()
    known = [Span(row.period_start, row.period_end)] if row else []
    if backlog.latest_at is not None:
        known.append(calendar_month(backlog.latest_at))
    return max(known, default=None)


def watermark(
    session: Session, tenant_id: str, customer_ref: str | None, metric: str | None
) -> datetime | None:
    """The time of the latest counted event, of a customer and a metric where they are given."""
    statement = select(func.max(Counter.watermark)).where(Counter.tenant_id == tenant_id)
    if customer_ref is not None:
        statement = statement.where(Counter.customer_ref == customer_ref)
    if metric is not None:
        statement = statement.where(Counter.metric == metric)
    return session.scalar(statement)


# LATERAL with OFFSET 0 keeps the planner from scanning the ledger for a handful of rows.
_UNFOLDED = """
WITH waiting AS MATERIALIZED (
    SELECT recorded_at, idempotency_key FROM unfolded WHERE tenant_id = %(tenant_id)s
    ORDER BY recorded_at LIMIT %(most)s
)
SELECT e.metric, count(*) FILTER (WHERE e.customer_ref = %(customer_ref)s) AS mine,
       max(e.occurred_at) FILTER (WHERE e.customer_ref = %(customer_ref)s) AS latest_at,
       count(*) AS searched
FROM waiting
CROSS JOIN LATERAL (
    SELECT metric, customer_ref, occurred_at FROM events
    WHERE tenant_id = %(tenant_id)s AND idempotency_key = waiting.idempotency_key OFFSET 0
) AS e
GROUP BY 1
"""
_NO_BACKLOG = Backlog(by_metric={}, latest_at=None, is_lower_bound=False)


def _backlog(session: Session, tenant_id: str, customer_ref: str) -> Backlog:
    parameters = {
        "tenant_id": tenant_id,
        "customer_ref": customer_ref,
        "most": BACKLOG_SEARCHED,
    }
    rows = session.connection().exec_driver_sql(_UNFOLDED, parameters).all()
    return Backlog(
        by_metric={row.metric: row.mine for row in rows if row.mine},
        latest_at=max((row.latest_at for row in rows if row.latest_at), default=None),
        is_lower_bound=sum(row.searched for row in rows) >= BACKLOG_SEARCHED,
    )
