"""Projections made by hand, without a database: whatever a widget may have to show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from metering.billing import days as by_days
from metering.billing.amounts import of_line, total
from metering.billing.days import LineDays, Used
from metering.billing.prices import InForce
from metering.billing.projection import Line, Projection
from metering.catalog.period import Span
from metering.counters.backlog import NONE, Backlog
from metering.counters.usage import MetricUsage, Usage
from pricing import projection as pace
from pricing.price import Price, from_config
from pricing.projection import Band
from webapp.widget import presenters
from webapp.widget.options import Options
from webapp.widget.presenters import Page

NOVEMBER = Span(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
NOW = datetime(2026, 11, 22, 14, 2, 11, tzinfo=UTC)


def price(model: str = "per_unit", currency: str = "usd", **fields: Any) -> Price:
    """By the contract's `priceConfig`."""
    return from_config({"model": model, "currency": currency} | fields)


def graduated(*tiers: tuple[str | None, str], **fields: Any) -> Price:
    """Tiers as (up to, unit price in major units)."""
    return price("graduated", tiers=_tiers(tiers), **fields)


def volume(*tiers: tuple[str | None, str], **fields: Any) -> Price:
    return price("volume", tiers=_tiers(tiers), **fields)


def _tiers(tiers: Sequence[tuple[str | None, str]]) -> list[dict[str, Any]]:
    return [{"upTo": up_to, "unitPrice": each} for up_to, each in tiers]


CALLS = graduated(("10000", "0"), ("50000", "0.008"), (None, "0.005"))
SEATS = price(unitPrice="12.00")
STORAGE = price("package", unitPrice="5.00", packageSize=100)

TWO_FLAT = price(
    "graduated",
    tiers=[
        {"upTo": "10000", "flatPrice": "50"},
        {"upTo": None, "unitPrice": "0.008"},
    ],
)


@dataclass(frozen=True)
class Metric:
    """by_day: what each day of November brought, from the 1st on, today's last."""

    name: str
    price: Price | None = None
    by_day: Sequence[str | int] = ()
    unit: str | None = None
    aggregation: str = "sum"
    band: tuple[str, str, str] | None = None
    basis: str = "even_pace"
    metric: str | None = None
    set_aside: int = 0
    unfolded: int = 0
    value: str | None = None
    span: Span = NOVEMBER
    more: Mapping[str, Any] | None = None
    changed_at: tuple[datetime, ...] = ()


def line_days(of: Metric, now: datetime = NOW) -> LineDays:
    used = Used(by_day={_day(of.span, i): Decimal(str(q)) for i, q in enumerate(of.by_day)})
    value = _value(of)
    usage = MetricUsage(
        metric=of.metric or of.name, value=value, aggregation=of.aggregation,
        display_name=of.name, unit=of.unit, lateness_seconds=172_800, span=of.span,
        closes_at=None, watermark=now, event_count=1, set_aside=of.set_aside,
        unfolded=of.unfolded, unique_complete=True, since_period=of.span.start_at,
        is_carried=False, sum_value=value, max_value=value, last_value=value, unique_count=0,
    )  # fmt: skip
    usage = usage if of.more is None else type(usage)(**(vars(usage) | dict(of.more)))
    band, basis = _band(of, value, now)
    amounts = None if of.price is None else of_line(of.price, value, band)
    why_not = None if of.price else "no price is mapped to this metric in the period"
    line = Line(usage, band, basis, InForce(of.price, why_not, changed_at=of.changed_at), amounts)
    return LineDays(line, () if of.aggregation == "unique" else by_days.spread(line, used, now))


def _day(span: Span, i: int) -> datetime:
    midnight = span.start_at.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + timedelta(days=i)


def _value(of: Metric) -> Decimal:
    found = [Decimal(str(each)) for each in of.by_day]
    if of.value is not None:
        return Decimal(of.value)
    if of.aggregation in ("sum", "count"):
        return sum(found, Decimal(0))
    return (found[-1] if of.aggregation == "last" else max(found)) if found else Decimal(0)


def _band(of: Metric, value: Decimal, now: datetime) -> tuple[Band, str]:
    if of.aggregation not in ("sum", "count") or now >= of.span.end_at:
        return pace.exactly(value), "none"
    if of.band is not None:
        low, expected, high = map(Decimal, of.band)
        return Band(low, expected, high), of.basis
    elapsed, length = (Decimal(str(s)) for s in (of.span.elapsed_seconds(now), of.span.seconds))
    return pace.evenly(value, elapsed, length), "even_pace"


def projection(
    metrics: Sequence[Metric],
    now: datetime = NOW,
    span: Span = NOVEMBER,
    backlog: Backlog = NONE,
    latest: Span | None = None,
) -> tuple[Projection, list[LineDays]]:
    days = [line_days(each, now) for each in metrics]
    lines = [each.line for each in days]
    totals = total([line.amounts for line in lines if line.amounts is not None])
    usage = Usage([line.usage for line in lines], span, now, now, backlog)
    return Projection(span, lines, totals, usage, latest), days


def page(
    *metrics: Metric,
    now: datetime = NOW,
    options: Options | None = None,
    only: Sequence[str] | None = None,
    **more: Any,
) -> Page:
    projected, days = projection(metrics, now, **more)
    return presenters.page(projected, days, options or Options(), now=now, only=only)


def spread(total: int, days: int = 22) -> list[int]:
    """A total over the days of November so far."""
    return [total // days] * (days - 1) + [total - total // days * (days - 1)]
