"""Up to four prices side by side: what each costs, its curve, and where one undercuts another."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from pricing import curve, money, presentation
from pricing.definition import Price
from pricing.errors import PricingError
from pricing.graduated import Graduated
from pricing.numbers import EXACT, ZERO, bounded, plain
from pricing.price import read, to_config
from pricing.reading import Members
from pricing.volume import Volume

MAX_PRICES = 4
MAX_QUANTITIES = 200
# All prices' together: every point of a curve is priced by every price, tier by tier.
MAX_TIERS = 200
MAX_POINTS = 500
_SMALLEST_PLOT = Decimal(1_000)


def compare(given: Mapping[str, Any]) -> dict[str, Any]:
    """Compare prices.

    given:   `{prices: [1..4], quantity? | quantities?, upTo?, points?}`; a price is a `priceConfig`
             or a Stripe Price, or `{name, priceConfig}`. Without `upTo` the curves reach to twice
             the last bound.
    Returns: `{currency, upTo, prices: [{price, totals, curve, boundaries, falls}], crossovers}`:
             decimal strings in major units, rounded totals also as integer `…Minor`.
    Raises:  PricingError naming the field.
    """
    members = Members(given)
    prices = _prices(members)
    quantities = _quantities(members)
    up_to = members.number("up_to") or _up_to(prices, quantities)
    points = members.whole("points", least=10, below=MAX_POINTS + 1) or 200
    members.finish()
    of = prices[0].currency
    return {
        "currency": of.code,
        "upTo": plain(up_to),
        "prices": [_shown(price, quantities, up_to, points) for price in prices],
        "crossovers": [
            {"quantity": plain(each.quantity), "cheaper": each.cheaper, "than": each.than}
            for each in curve.crossovers(prices, up_to)
        ],
    }


def _prices(members: Members) -> list[Price]:
    given = members.items("prices")
    if not 1 <= len(given) <= MAX_PRICES:
        raise PricingError(members.at("prices"), f"must be 1 to {MAX_PRICES} prices")
    prices: list[Price] = []
    for i, each in enumerate(given):
        at = f"{members.at('prices')}/{i}"
        try:
            price = _price(each)
        except PricingError as error:
            raise error.within(at) from None
        if prices and price.currency != prices[0].currency:
            raise PricingError(
                f"{at}/currency",
                f"differs from the first price's, which is {prices[0].currency.code}: amounts of"
                " two currencies cannot be compared",
            )
        prices.append(price)
    if sum(map(_tiers, prices)) > MAX_TIERS:
        raise PricingError(members.at("prices"), f"have more than {MAX_TIERS} tiers together")
    return prices


def _price(given: Any) -> Price:
    """A price by itself, or one with its name as a saved comparison has it."""
    if not isinstance(given, Mapping) or "priceConfig" not in given:
        return read(given)
    members = Members(given)
    members.text("name", most=200)
    config = members.take("price_config")
    members.finish()
    try:
        return read(config)
    except PricingError as error:
        raise error.within("priceConfig") from None


def _tiers(price: Price) -> int:
    return len(price.model.tiers) if isinstance(price.model, Graduated | Volume) else 1


def _quantities(members: Members) -> list[Decimal]:
    one = members.number("quantity")
    several = members.items("quantities", most=MAX_QUANTITIES)
    if one is not None and several:
        raise PricingError(members.at("quantities"), "and quantity exclude each other")
    if one is not None:
        return [one]
    at = members.at("quantities")
    return [bounded(each, f"{at}/{i}") for i, each in enumerate(several)]


def _up_to(prices: Sequence[Price], quantities: Sequence[Decimal]) -> Decimal:
    bounds = [bound for price in prices for bound in curve.boundaries(price)]
    doubled = [EXACT.multiply(Decimal(2), bound) for bound in bounds]
    return max([*doubled, *quantities], default=ZERO) or _SMALLEST_PLOT


def _shown(
    price: Price, quantities: Sequence[Decimal], up_to: Decimal, points: int
) -> dict[str, Any]:
    of = price.currency
    return {
        "price": to_config(price),
        "totals": [_total(price, quantity) for quantity in quantities],
        "curve": [
            {"quantity": plain(point.quantity), "amount": money.show(point.amount, of)}
            for point in curve.curve(price, up_to, points)
        ],
        "boundaries": [plain(bound) for bound in curve.boundaries(price) if bound <= up_to],
        "falls": [
            {
                "quantity": plain(fall.quantity),
                "before": money.show(fall.before, of),
                "after": money.show(fall.after, of),
                "until": None if fall.until is None else plain(fall.until),
            }
            for fall in curve.falls(price)
        ],
    }


def _total(price: Price, quantity: Decimal) -> dict[str, Any]:
    of, exact, amount = price.currency, price.charge(quantity), price.amount(quantity)
    return {
        "quantity": plain(quantity),
        "total": money.show(amount, of),
        "totalMinor": amount,
        "exact": money.show(exact, of),
        "unitPrice": presentation.unit_price(price, quantity, exact),
        "marginal": plain(money.major(price.marginal(quantity), of)),
        "lines": [presentation.part(each, of) for each in price.parts(quantity)],
    }
