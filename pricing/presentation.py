"""An invoice in the contract's words: decimal strings in major units, totals in minor ones too."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from pricing import money
from pricing.definition import Price
from pricing.graduated import Graduated
from pricing.invoice import Applied, Invoice, Line
from pricing.money import Currency
from pricing.numbers import EXACT, ZERO, plain
from pricing.part import Part
from pricing.volume import Volume

# As many decimals as a price may have; only for averages, which need not end.
_PLACES = 12


def shown(invoice: Invoice) -> dict[str, Any]:
    """The result of a simulation."""
    of = invoice.currency
    result: dict[str, Any] = {
        "currency": of.code,
        "lineItems": [_line(line, of) for line in invoice.lines],
    }
    for name in ("subtotal", "discounts", "credits", "tax", "total"):
        result[name] = money.show(getattr(invoice, name), of)
        result[f"{name}Minor"] = getattr(invoice, name)
    result["appliedDiscounts"] = _applied(invoice.applied_discounts, of)
    result["appliedCredits"] = _applied(invoice.applied_credits, of)
    return result


def _line(line: Line, of: Currency) -> dict[str, Any]:
    item: dict[str, Any] = {
        "metric": line.metric,
        "quantity": plain(line.quantity),
        "unitPrice": None,
        "total": money.show(line.amount, of),
        "totalMinor": line.amount,
        "exact": money.show(line.exact, of),
        "discount": money.show(line.discount, of),
        "credit": money.show(line.credit, of),
        "lines": [part(each, of) for each in line.parts],
    }
    if line.metric is None:
        item["kind"] = "minimum_commitment"
    if line.price is not None:
        item["model"] = line.price.model.kind
        item["unitPrice"] = unit_price(line.price, line.quantity, line.exact)
        if isinstance(line.price.model, Graduated | Volume):
            item["tiers"] = tiers(line.price, line.parts)
    return item


def unit_price(price: Price, quantity: Decimal, exact: Decimal) -> str:
    """What one unit costs in major units: the price itself where there is one, else the average;
    for nothing used, what the first unit costs."""
    of = price.currency
    if price.model.kind in ("per_unit", "package"):
        return plain(money.major(price.model.unit_amount, of))  # type: ignore[union-attr]
    if not quantity:
        return plain(money.major(price.marginal(ZERO), of))
    return plain(average(money.major(exact, of), quantity))


def average(total: Decimal, quantity: Decimal) -> Decimal:
    """total / quantity to twelve decimals."""
    scaled = EXACT.divide_int(EXACT.scaleb(total, _PLACES + 1), quantity)
    return money.quantized(EXACT.scaleb(scaled, -_PLACES - 1), _PLACES)


def part(each: Part, of: Currency) -> dict[str, Any]:
    """One of Stripe's lines."""
    return {
        "kind": each.kind,
        "tier": each.tier,
        "quantity": plain(each.quantity),
        "unitPrice": plain(money.major(each.unit_amount, of)),
        "total": money.show(each.amount, of),
        "totalMinor": each.amount,
        "exact": money.show(each.exact, of),
    }


def tiers(price: Price, parts: Sequence[Part]) -> list[dict[str, Any]]:
    """The tier table with what each tier came to."""
    assert isinstance(price.model, Graduated | Volume)
    of, table = price.currency, []
    for position, tier in enumerate(price.model.tiers):
        own = [each for each in parts if each.tier == position]
        units = next((each.quantity for each in own if each.kind == "unit"), ZERO)
        row: dict[str, Any] = {
            "upTo": None if tier.up_to is None else plain(tier.up_to),
            "unitPrice": None if tier.unit_amount is None else _major(tier.unit_amount, of),
            "flatPrice": None if tier.flat_amount is None else _major(tier.flat_amount, of),
            "quantity": plain(units),
            "total": money.show(sum(each.amount for each in own), of),
        }
        table.append(row)
    return table


def _major(amount: Decimal, of: Currency) -> str:
    return plain(money.major(amount, of))


def _applied(applied: Sequence[Applied], of: Currency) -> list[dict[str, Any]]:
    rows = []
    for each in applied:
        row: dict[str, Any] = {
            "name": each.name,
            "kind": each.kind,
            "applied": money.show(each.amount, of),
        }
        if each.remaining is not None:
            row["remaining"] = money.show(each.remaining, of)
        if each.why_not is not None:
            row["notUsed"] = each.why_not
        rows.append(row)
    return rows
