"""What was used: the one place where a shown number comes from, with its `as_of`."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from metering.catalog.models import Metric
from metering.catalog.period import Span, calendar_month
from metering.counters.aggregation import reading
from metering.counters.models import Counter, SetAside

# How far the backlog is searched for one customer's share of it.
BACKLOG_SEARCHED = 1_000


@dataclass(frozen=True)
class MetricUsage:
    """One metric of one customer in one billing period.

    value: by the metric's own aggregation.  watermark: None while nothing is counted yet.
    unfolded: events received and not yet counted, of whatever period.
    unique_complete: False while a freshly switched-on unique count is still being completed.
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


def of_customer(
    session: Session, tenant_id: str, customer_ref: str, span: Span, *, now: datetime
) -> Usage:
    """What the customer has used in the billing period that is exactly `span`."""
    complete_to = as_of(session, tenant_id, now=now)
    counters = session.execute(
        select(Counter, Metric)
        .join(
            Metric,
            (Metric.tenant_id == Counter.tenant_id) & (Metric.metric == Counter.metric),
        )
        .where(
            Counter.tenant_id == tenant_id,
            Counter.customer_ref == customer_ref,
            Counter.period_start == span.start_at,
        )
        .order_by(Counter.metric)
    ).all()
    backlog = _NO_BACKLOG
    if complete_to < now:
        backlog = _backlog(session, tenant_id, customer_ref)
    aside = _set_aside(session, tenant_id, customer_ref, span)
    shown = [_counted(counter, metric, aside, backlog) for counter, metric in counters]
    # What came too late for good is no usage, but whoever looks for it must find it.
    missing = aside.keys() - {metric.metric for metric in shown}
    for metric in _metrics(session, tenant_id, missing):
        shown.append(_uncounted(metric, span, aside, backlog))
    return Usage(
        metrics=sorted(shown, key=lambda usage: usage.metric),
        as_of=complete_to,
        folded_at=max((counter.folded_at for counter, _ in counters), default=None),
        backlog=backlog,
    )


def _counted(
    counter: Counter, metric: Metric, aside: dict[str, int], backlog: Backlog
) -> MetricUsage:
    value = reading(metric.aggregation, counter, counter.unique_count)
    span = Span(counter.period_start, counter.period_end)
    nothing = _uncounted(metric, span, aside, backlog)
    return replace(
        nothing, value=value, watermark=counter.watermark, event_count=counter.event_count
    )


def _uncounted(metric: Metric, span: Span, aside: dict[str, int], backlog: Backlog) -> MetricUsage:
    return MetricUsage(
        metric=metric.metric,
        value=Decimal(0),
        aggregation=metric.aggregation,
        display_name=metric.display_name,
        unit=metric.unit,
        lateness_seconds=metric.lateness_seconds,
        span=span,
        watermark=None,
        event_count=0,
        set_aside=aside.get(metric.metric, 0),
        unfolded=backlog.by_metric.get(metric.metric, 0),
        unique_complete=metric.unique_filled_to is None,
    )


def _metrics(session: Session, tenant_id: str, names: Set[str]) -> Sequence[Metric]:
    if not names:
        return []
    wanted = select(Metric).where(Metric.tenant_id == tenant_id, Metric.metric.in_(names))
    return session.scalars(wanted).all()


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


def _set_aside(session: Session, tenant_id: str, customer_ref: str, span: Span) -> dict[str, int]:
    rows = session.execute(
        select(SetAside.metric, func.count())
        .where(
            SetAside.tenant_id == tenant_id,
            SetAside.customer_ref == customer_ref,
            SetAside.period_start == span.start_at,
        )
        .group_by(SetAside.metric)
    )
    return {row[0]: row[1] for row in rows}
