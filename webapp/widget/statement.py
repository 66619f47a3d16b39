"""The statement: a period's usage and cost as rows, day by day, as the widget shows it."""

from collections.abc import Iterator, Sequence
from decimal import Decimal

from metering.billing.amounts import by_currency
from metering.billing.days import LineDays
from metering.billing.projection import Projection
from pricing.money import Currency, show
from webapp import wire

HEADER = (
    "row", "metric", "name", "unit", "start", "end", "quantity", "amount", "currency", "as_of",
    "note",
)  # fmt: skip
Row = tuple[object, ...]


def rows(projected: Projection, by_day: Sequence[LineDays]) -> Iterator[Row]:
    """`day` rows add up to the `metric` row in money, and those to the `total` of each currency.

    Amounts are in major units; no amount means no price, never nothing to pay.
    """
    as_of = wire.instant(projected.usage.as_of)
    for each in by_day:
        yield from _metric(each, as_of)
    start, end = projected.span.start_at, projected.span.end_at
    for sums in by_currency(line.amounts for line in projected.lines):
        money = (_major(sums.current, sums.currency), sums.currency.code.upper())
        yield (
            "total", None, None, None, wire.instant(start), wire.instant(end), None, *money, as_of,
            None,
        )  # fmt: skip


def _metric(each: LineDays, as_of: str) -> Iterator[Row]:
    usage, price = each.line.usage, each.line.price.price
    named = (usage.metric, usage.display_name or usage.metric, usage.unit)
    code = None if price is None else price.currency.code.upper()

    def money(minor: int | None) -> Decimal | None:
        return None if price is None or minor is None else _major(minor, price.currency)

    for day in each.days:
        yield (
            "day", *named, wire.instant(day.start_at), wire.instant(day.end_at), day.quantity,
            money(day.amount), code, as_of, None,
        )  # fmt: skip
    amounts = each.line.amounts
    yield (
        "metric", *named, wire.instant(usage.span.start_at), wire.instant(usage.span.end_at),
        usage.value, money(amounts.current if amounts else None), code, as_of, _note(each),
    )  # fmt: skip


def _major(minor: int, of: Currency) -> Decimal:
    """A number and no text: a negative amount can be summed up too."""
    return Decimal(show(minor, of))


def _note(each: LineDays) -> str | None:
    usage, notes = each.line.usage, []
    if each.line.amounts is None:
        # Why is the operator's to know: it may name a test price, an item or what to type.
        notes.append("no price")
    if usage.delta:
        notes.append(f"includes an adjustment of {usage.delta:+f}")
    if usage.value < 0:
        notes.append("a quantity below zero is billed as 0")
    if usage.unfolded:
        notes.append(f"{usage.unfolded} events are still being counted")
    if usage.set_aside:
        notes.append(f"{usage.set_aside} events came too late for the period and are set aside")
    return "; ".join(notes) or None
