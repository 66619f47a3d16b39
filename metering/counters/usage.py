"""What was used: the one place where a shown number comes from, with its `as_of`."""

from collections import Counter as Tally
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from metering.catalog import period_sql
from metering.catalog.models import Metric
from metering.catalog.period import Span, calendar_month
from metering.counters import backlog as backlogs
from metering.counters import carry
from metering.counters.aggregation import reading
from metering.counters.backlog import Backlog
from metering.counters.models import Counter
from pricing.numbers import EXACT, ZERO


@dataclass(frozen=True)
class MetricUsage:
    """One metric of one customer in one billing period.

    value: by the metric's own aggregation.  watermark: None while nothing is counted yet.
    set_aside: events that came too late, of which nobody has approved that they count or how else
    they are settled.
    unfolded: events received and not yet counted, of whatever period.
    closes_at: from when on its events are set aside; None: not known, or never.
    closed_at: since when it is closed; None: it is not.
    unique_complete: False while a freshly switched-on unique count is still being completed.
    is_carried: nothing of it was counted in the period; its last value is an earlier period's.
    delta: what approved adjustments add to its value, whatever the aggregation.
    since_period: the start of the first period in which anything of it was counted.
    """

    metric: str
    value: Decimal
    aggregation: str
    display_name: str | None
    unit: str | None
    lateness_seconds: int
    span: Span
    closes_at: datetime | None
    watermark: datetime | None
    event_count: int
    set_aside: int
    unfolded: int
    unique_complete: bool
    since_period: datetime | None
    is_carried: bool
    sum_value: Decimal
    max_value: Decimal
    last_value: Decimal
    unique_count: int
    delta: Decimal = ZERO
    closed_at: datetime | None = None

    def read_by(self, aggregation: str | None) -> "MetricUsage":
        """The same usage by another aggregation; None: by the metric's own."""
        if aggregation in (None, self.aggregation):
            return self
        value = reading(aggregation, self, self.unique_count)
        return replace(self, aggregation=aggregation, value=value)


@dataclass(frozen=True)
class Usage:
    """A customer's usage at an instant. as_of: all received before it is in the numbers.

    span: the billing period that most of the metrics share.
    idle_span: the one that it would be if nothing had been used; None: the same.
    """

    metrics: Sequence[MetricUsage]
    span: Span
    as_of: datetime
    folded_at: datetime | None
    backlog: Backlog
    idle_span: Span | None = None

    def narrowed(self, metrics: Collection[str]) -> "Usage":
        """Only these metrics. as_of and folded_at stay: they are of whatever was used.

        Where none of them was used, the period does not tell of others that were.
        """
        kept = [metric for metric in self.metrics if metric.metric in metrics]
        return replace(
            self,
            metrics=kept,
            span=_most_common([metric.span for metric in kept]) or self.idle_span or self.span,
            backlog=self.backlog.narrowed(metrics),
        )


_TOTAL = """
SELECT m.aggregation, m.carry_over, c.event_count, c.sum_value, c.max_value, c.last_value,
       c.unique_count, c.delta
FROM metrics m
LEFT JOIN used_counters c ON c.tenant_id = %(tenant_id)s AND c.customer_ref = %(customer_ref)s
    AND c.metric = %(metric)s AND c.period_start = %(period_start)s
WHERE m.tenant_id = %(tenant_id)s AND m.metric = %(metric)s
"""


def total(
    session: Session,
    tenant_id: str,
    customer_ref: str,
    metric: str,
    period_start: datetime,
    *,
    aggregation: str | None = None,
) -> Decimal:
    """The total of one period: where nothing counts, what a gauge carries over, else 0.

    aggregation: None: the metric's own.
    """
    parameters = {
        "tenant_id": tenant_id,
        "customer_ref": customer_ref,
        "metric": metric,
        "period_start": period_start,
    }
    row = session.connection().exec_driver_sql(_TOTAL, parameters).first()
    if row is None:
        return ZERO
    wanted = aggregation or row.aggregation
    if wanted == "last" and row.carry_over and row.last_value is None:
        stood = carry.carried(session, tenant_id, customer_ref, metric, period_start)
        return EXACT.add(stood or ZERO, row.delta or ZERO)
    return ZERO if row.event_count is None else reading(wanted, row, row.unique_count)


def stood(
    session: Session, tenant_id: str, customer_ref: str, metric: str, period_start: datetime
) -> Decimal:
    """At what a gauge stands in a period of which nobody reported anything: 0, or what is carried
    over into it."""
    carries = session.scalar(
        select(Metric.carry_over).where(Metric.tenant_id == tenant_id, Metric.metric == metric)
    )
    if not carries:
        return ZERO
    return carry.carried(session, tenant_id, customer_ref, metric, period_start) or ZERO


def as_of(session: Session, tenant_id: str, *, now: datetime) -> datetime:
    """The instant up to which the tenant's numbers are complete."""
    oldest = session.connection().exec_driver_sql(
        "SELECT min(recorded_at) FROM unfolded WHERE tenant_id = %(tenant_id)s",
        {"tenant_id": tenant_id},
    )
    return oldest.scalar() or now


# One statement, for this is asked at every look at a widget. Metrics come first: few, and each
# finds its period and its counter by primary key. What came too late for good is no usage, but
# whoever looks for it must find its metric.
_OF_CUSTOMER = f"""
WITH drawn AS MATERIALIZED (
    SELECT m.*, {period_sql.begun("%(customer_ref)s", "m.metric", "%(instant)s")} AS begun
    FROM metrics m WHERE m.tenant_id = %(tenant_id)s
), bounded AS MATERIALIZED (
    SELECT d.*, {period_sql.start("d.begun", "%(instant)s::timestamptz")} AS start_at,
           {period_sql.end("d.begun", "%(customer_ref)s", "d.metric", "%(instant)s::timestamptz")}
               AS end_at,
           {period_sql.is_held("d.begun", "%(instant)s")} IS TRUE AS is_held
    FROM drawn d
)
SELECT waiting.since, used.*
FROM (SELECT min(recorded_at) AS since FROM unfolded WHERE tenant_id = %(tenant_id)s) AS waiting
LEFT JOIN (
    SELECT m.metric, m.aggregation, m.display_name, m.unit, m.lateness_seconds, m.carry_over,
           m.unique_filled_to IS NULL AS unique_complete, m.start_at, m.end_at, m.is_held,
           CASE WHEN m.is_held THEN (m.begun).closes_at END AS closes_at,
           CASE WHEN m.is_held THEN coalesce((m.begun).closed_at, (m.begun).final_at) END
               AS closed_at,
           c.event_count, c.sum_value, c.max_value, c.last_value, c.unique_count, c.delta,
           c.watermark, c.folded_at, coalesce(aside.events, 0) AS set_aside,
           (SELECT min(f.period_start) FROM counters f
            WHERE f.tenant_id = %(tenant_id)s AND f.customer_ref = %(customer_ref)s
              AND f.metric = m.metric) AS since_period
    FROM bounded m
    LEFT JOIN LATERAL (
        SELECT * FROM used_counters
        WHERE tenant_id = %(tenant_id)s AND customer_ref = %(customer_ref)s
          AND metric = m.metric AND period_start = m.start_at
        OFFSET 0
    ) AS c ON true
    LEFT JOIN LATERAL (
        SELECT count(*) AS events FROM set_aside
        WHERE tenant_id = %(tenant_id)s AND customer_ref = %(customer_ref)s
          AND metric = m.metric AND period_start = m.start_at
          AND NOT EXISTS (SELECT 1 FROM adjustments j WHERE j.tenant_id = %(tenant_id)s
                          AND j.adjustment_id = set_aside.adjustment_id AND j.status = 'approved')
        OFFSET 0
    ) AS aside ON true
    WHERE NOT %(is_exact)s OR m.start_at = %(instant)s
) AS used ON true
ORDER BY used.metric
"""


def of_customer(
    session: Session, tenant_id: str, customer_ref: str, span: Span | None, *, now: datetime
) -> Usage:
    """What the customer has used: each metric in its own billing period that holds `now`.

    span: a billing period instead; metrics whose periods begin elsewhere are left out.
    """
    parameters = {
        "tenant_id": tenant_id,
        "customer_ref": customer_ref,
        "instant": now if span is None else span.start_at,
        "is_exact": span is not None,
    }
    rows = session.connection().exec_driver_sql(_OF_CUSTOMER, parameters).all()
    since = rows[0].since
    waiting = backlogs.NONE
    if since is not None:
        waiting = backlogs.of_customer(session, tenant_id, customer_ref)
    known = [row for row in rows if row.metric is not None]
    metrics = []
    for row in known:
        last = row.last_value
        if last is None and row.carry_over:
            last = carry.carried(session, tenant_id, customer_ref, row.metric, row.start_at)
        if last is not None or row.event_count is not None or row.set_aside:
            metrics.append(_metric_usage(row, last, waiting))
    held = _most_common([_span(row) for row in known if row.is_held])
    idle = span or held or calendar_month(now)
    return Usage(
        metrics=metrics,
        span=span or _most_common([metric.span for metric in metrics]) or idle,
        as_of=since or now,
        folded_at=max((row.folded_at for row in known if row.folded_at), default=None),
        backlog=waiting,
        idle_span=idle,
    )


def _most_common(spans: Sequence[Span]) -> Span | None:
    return Tally(spans).most_common(1)[0][0] if spans else None


def _span(row: Any) -> Span:
    return Span(row.start_at.astimezone(UTC), row.end_at.astimezone(UTC))


def _metric_usage(row: Any, last_value: Decimal | None, backlog: Backlog) -> MetricUsage:
    is_counted = row.event_count is not None
    value = reading(row.aggregation, row, row.unique_count) if is_counted else ZERO
    is_carried = row.last_value is None and last_value is not None
    if is_carried and row.aggregation == "last":
        value = EXACT.add(last_value or ZERO, row.delta or ZERO)
    return MetricUsage(
        metric=row.metric,
        value=value,
        aggregation=row.aggregation,
        display_name=row.display_name,
        unit=row.unit,
        lateness_seconds=row.lateness_seconds,
        span=_span(row),
        closes_at=row.closes_at,
        closed_at=row.closed_at,
        watermark=row.watermark,
        event_count=row.event_count or 0,
        set_aside=row.set_aside,
        unfolded=backlog.by_metric.get(row.metric, 0),
        unique_complete=row.unique_complete,
        since_period=row.since_period,
        is_carried=is_carried,
        sum_value=row.sum_value or ZERO,
        max_value=row.max_value or ZERO,
        last_value=last_value or ZERO,
        unique_count=row.unique_count or 0,
        delta=row.delta or ZERO,
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
        known.append(periods_at(session, tenant_id, customer_ref, backlog.latest_at)[0])
    return max(known, default=None)


_PERIODS_AT = """
SELECT start_at, end_at FROM billing_periods
WHERE tenant_id = %(tenant_id)s AND customer_ref = %(customer_ref)s
  AND start_at <= %(instant)s AND end_at > %(instant)s
UNION
SELECT period_start, period_end FROM counters
WHERE tenant_id = %(tenant_id)s AND customer_ref = %(customer_ref)s
  AND period_start <= %(instant)s AND period_end > %(instant)s
ORDER BY 1, 2
"""


def periods_at(
    session: Session, tenant_id: str, customer_ref: str, instant: datetime
) -> list[Span]:
    """The customer's billing periods that hold the instant, and at last the calendar month."""
    parameters = {"tenant_id": tenant_id, "customer_ref": customer_ref, "instant": instant}
    rows = session.connection().exec_driver_sql(_PERIODS_AT, parameters)
    found = [_span(row) for row in rows]
    return [*found, calendar_month(instant)]


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
