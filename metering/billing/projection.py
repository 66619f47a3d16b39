"""Counters × prices: what a period costs so far and is heading for."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy.orm import Session

from metering.billing import prices
from metering.billing.amounts import Amounts, billed, of_line, total
from metering.billing.prices import InForce
from metering.catalog.period import Span
from metering.counters import usage, weeks
from metering.counters.usage import MetricUsage, Usage
from metering.counters.weeks import PastWeek
from pricing import projection as pace
from pricing.numbers import EXACT
from pricing.projection import Band, Week

BASES = ("weekly_profile", "even_pace", "none")
_ACCUMULATING = ("sum", "count")
# An even pace of a few hours says more of the time of day than of the period.
_EARLY = timedelta(days=1)


@dataclass(frozen=True)
class Line:
    """One metric of the projection.

    basis:   how the rest was guessed: `weekly_profile`, `even_pace`, or `none` where there is
             nothing to guess: a reading that does not grow with time, or a period that is over.
    amounts: None without a price, never zero.
    """

    usage: MetricUsage
    projected: Band
    basis: str
    price: InForce
    amounts: Amounts | None

    @property
    def as_billed(self) -> "Line":
        """The same where its total is below zero, as a total of 0; see `amounts`."""
        if self.usage.value >= 0:
            return self
        band = self.projected
        return replace(
            self,
            usage=replace(self.usage, value=billed(self.usage.value)),
            projected=Band(billed(band.low), billed(band.expected), billed(band.high)),
        )


@dataclass(frozen=True)
class Projection:
    """A customer's billing period: what was used, what it costs, and where that leads.

    span: the billing period that most of the lines share; each line's usage has its own.
    totals: None where no line has a price, or their currencies differ.
    latest_period: where `lines` is empty, the last period with usage, if there is one.
    """

    span: Span
    lines: Sequence[Line]
    totals: Amounts | None
    usage: Usage
    latest_period: Span | None


def project(
    session: Session, tenant_id: str, customer_ref: str, span: Span | None, *, now: datetime
) -> Projection:
    """Project one billing period, by default each metric's own that holds `now`."""
    used = usage.of_customer(session, tenant_id, customer_ref, span, now=now)
    by_span: dict[Span, list[str]] = {}
    for metric in used.metrics:
        by_span.setdefault(metric.span, []).append(metric.metric)
    found: dict[str, InForce] = {}
    for period, names in by_span.items():
        found |= prices.in_force(session, tenant_id, customer_ref, names, period)
    metrics = [metric.read_by(found[metric.metric].aggregation) for metric in used.metrics]
    past: dict[str, list[PastWeek]] = {}
    for period in by_span:
        sharing = [metric for metric in metrics if metric.span == period]
        past |= _past_weeks(session, tenant_id, customer_ref, sharing, period, now)
    lines = [_line(m, found[m.metric], past.get(m.metric, []), now) for m in metrics]
    latest = None
    if not lines:
        latest = usage.latest_period(session, tenant_id, customer_ref, used.backlog)
    return Projection(used.span, lines, _totals(lines), used, latest)


def narrowed(projected: Projection, metrics: Collection[str]) -> Projection:
    """Only these metrics of the projection, its totals and backlog with them.

    latest_period: None, for which of the metrics was used then is not known any more.
    """
    used = projected.usage.narrowed(metrics)
    lines = [line for line in projected.lines if line.usage.metric in metrics]
    return Projection(used.span, lines, _totals(lines), used, None)


def is_early(line: Line, now: datetime) -> bool:
    """Whether an even pace is guessed from less than a day of the period: too little to show."""
    elapsed = timedelta(seconds=line.usage.span.elapsed_seconds(now))
    return line.basis == "even_pace" and elapsed < _EARLY


def _totals(lines: Sequence[Line]) -> Amounts | None:
    return total([line.amounts for line in lines if line.amounts is not None])


def _past_weeks(
    session: Session,
    tenant_id: str,
    customer_ref: str,
    metrics: Sequence[MetricUsage],
    period: Span,
    now: datetime,
) -> dict[str, list[PastWeek]]:
    """History, where there is something left to guess and there can be any."""
    growing = {
        metric.metric: metric.aggregation
        for metric in metrics
        if metric.aggregation in _ACCUMULATING
        and metric.since_period is not None
        and metric.since_period <= now - weeks.SHORTEST
    }
    if not growing or not period.start_at <= now < period.end_at:
        return {}
    start, at, end = (int(i.timestamp()) for i in (period.start_at, now, period.end_at))
    return weeks.of_customer(
        session,
        tenant_id,
        customer_ref,
        growing,
        behind=pace.hours_of_week(start, at),
        ahead=pace.hours_of_week(at, end),
        now=now,
    )


def _line(metric: MetricUsage, found: InForce, past: Sequence[PastWeek], now: datetime) -> Line:
    band, basis = _projected(metric, past, now)
    amounts = None if found.price is None else of_line(found.price, metric.value, band)
    return Line(metric, band, basis, found, amounts)


def _projected(metric: MetricUsage, past: Sequence[PastWeek], now: datetime) -> tuple[Band, str]:
    """An adjustment is no pace: usage goes on as it did, and the number stays what it is."""
    span, delta = metric.span, metric.delta
    if metric.aggregation not in _ACCUMULATING or now >= span.end_at:
        return pace.exactly(metric.value), "none"
    value = EXACT.subtract(metric.value, delta)
    if past:
        weeks_of = [Week(week.behind, week.ahead, week.whole) for week in past]
        return _moved(pace.by_weeks(value, weeks_of), delta), "weekly_profile"
    elapsed, length = Decimal(str(span.elapsed_seconds(now))), Decimal(str(span.seconds))
    return _moved(pace.evenly(value, elapsed, length), delta), "even_pace"


def _moved(band: Band, by: Decimal) -> Band:
    if not by:
        return band
    return Band(EXACT.add(band.low, by), EXACT.add(band.expected, by), EXACT.add(band.high, by))
