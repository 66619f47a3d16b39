"""The projection in the contract's form: amounts in major units, never 0 where there is none."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from metering.billing.amounts import Amounts, billed
from metering.billing.projection import Line, Projection
from metering.catalog.period import Span
from pricing import presentation
from pricing.graduated import Graduated
from pricing.money import Currency, show
from pricing.price import Price
from pricing.volume import Volume
from webapp import wire
from webapp.usage.presenters import span

_TOTALS = (
    "subtotal", "credits", "tax", "total", "projectedTotal", "projectedLow", "projectedHigh",
)  # fmt: skip
_LINE_TOTALS = ("total", "projectedTotal", "projectedTotalLow", "projectedTotalHigh")


def projection(customer_ref: str, projected: Projection, now: datetime) -> dict[str, Any]:
    """The answer of `POST /v1/usage/projection`."""
    usage = projected.usage
    answer: dict[str, Any] = {
        "customerRef": customer_ref,
        "periodStart": wire.instant(projected.span.start_at),
        "periodEnd": wire.instant(projected.span.end_at),
        "currency": projected.totals.currency.code if projected.totals else None,
        "lineItems": [_line(line, projected.span) for line in projected.lines],
        **_totals(projected.totals),
        "freshness": {
            "asOf": wire.instant(usage.as_of),
            "lastUpdate": wire.instant(usage.folded_at) if usage.folded_at else None,
            "stalenessSeconds": max(0.0, (now - usage.as_of).total_seconds()),
        },
        "unfolded": usage.backlog.events,
        "unfoldedIsLowerBound": usage.backlog.is_lower_bound,
        "warnings": list(_warnings(projected)),
    }
    if not projected.lines:
        answer["latestPeriod"] = span(projected.latest_period) if projected.latest_period else None
    return answer


def _totals(sums: Amounts | None) -> dict[str, Any]:
    if sums is None:
        return _amounts(_TOTALS, [None] * len(_TOTALS), None)
    # Credits and tax are Stripe's to say: none are known here, and none are taken off or added.
    values = (sums.current, 0, 0, sums.current, sums.projected, sums.low, sums.high)
    return _amounts(_TOTALS, values, sums.currency)


def _amounts(names: Any, values: Any, of: Currency | None) -> dict[str, Any]:
    """Each amount as a decimal string and as `…Minor`."""
    shown: dict[str, Any] = {}
    for name, value in zip(names, values, strict=True):
        shown[name] = None if of is None else show(value, of)
        shown[f"{name}Minor"] = value
    return shown


def _warnings(projected: Projection) -> Iterator[str]:
    priced = [line.amounts.currency.code for line in projected.lines if line.amounts is not None]
    for line in projected.lines:
        metric = line.usage.metric
        if line.amounts is None:
            yield f"{metric} has no price; its usage is not in the totals"
        elif line.price.changed_at:
            instants = ", ".join(map(wire.instant, line.price.changed_at))
            yield (
                f"the price of {metric} changes within the period, at {instants}; all of its usage"
                " is at the price in force at the period's end"
            )
        if line.price.note is not None:
            yield f"{metric}: {line.price.note}"
        if line.usage.value < 0:
            yield f"the total of {metric} is below zero; it is billed as 0"
        if line.usage.is_carried and line.usage.aggregation == "last":
            yield f"{metric} had no event in the period; its last value before is carried over"
        if line.usage.aggregation == "unique" and not line.usage.unique_complete:
            yield f"the unique count of {metric} is still being completed"
    if len(set(priced)) > 1:
        several = ", ".join(sorted(set(priced)))
        yield f"the lines are in different currencies ({several}), which have no total"


def _line(line: Line, head: Span) -> dict[str, Any]:
    metric, band, price = line.usage, line.projected, line.price.price
    shown: dict[str, Any] = {
        "metric": metric.metric,
        "aggregation": metric.aggregation,
        "unit": metric.unit,
        "quantity": wire.decimal(metric.value),
        "projectedQuantity": wire.decimal(band.expected),
        "projectedQuantityLow": wire.decimal(band.low),
        "projectedQuantityHigh": wire.decimal(band.high),
        "projectionBasis": line.basis,
        "mappingId": line.price.mapping_id,
        "adjustments": wire.decimal(metric.delta),
        "setAside": metric.set_aside,
        "unfolded": metric.unfolded,
    }
    if metric.span != head:
        shown["periodStart"] = wire.instant(metric.span.start_at)
        shown["periodEnd"] = wire.instant(metric.span.end_at)
    if price is None or line.amounts is None:
        shown |= {"currency": None, "model": None, "unitPrice": None, "exact": None}
        shown |= _amounts(_LINE_TOTALS, [None] * len(_LINE_TOTALS), None)
        return shown | {"warning": line.price.why_not}
    return shown | _priced(line, price, line.amounts)


def _priced(line: Line, price: Price, amounts: Amounts) -> dict[str, Any]:
    quantity, of = billed(line.usage.value), price.currency
    exact = price.charge(quantity)
    values = (amounts.current, amounts.projected, amounts.low, amounts.high)
    shown: dict[str, Any] = {
        "currency": of.code,
        "model": price.model.kind,
        "unitPrice": presentation.unit_price(price, quantity, exact),
        "exact": show(exact, of),
        **_amounts(_LINE_TOTALS, values, of),
    }
    if isinstance(price.model, Graduated | Volume):
        shown["tiers"] = presentation.tiers(price, price.parts(quantity))
    return shown
