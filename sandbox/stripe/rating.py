"""What a quantity costs at a price: the stand-in's own arithmetic.

It shares nothing with the project's pricing, which it is there to check. Amounts are minor units;
every charge is a line of an invoice and is rounded for itself, half up. Sources:
docs.stripe.com/products-prices/pricing-models, and an invoice of Stripe's (1031 units; a first tier
up to 1000 at 0 with a flat 900, then 3.6 each with a flat 0: lines of 0, 900, 112 and 0).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal
from typing import Any, Literal

_EXACT = Context(prec=80)
_NOTHING = Decimal(0)


@dataclass(frozen=True)
class Tier:
    """unit, flat: minor units; None makes no line, 0 makes a line of 0. up_to: inclusive."""

    up_to: int | None
    unit: Decimal | None
    flat: Decimal | None


@dataclass(frozen=True)
class Charge:
    """One line. tier: counted from 1; None outside of tiers. quantity: 0 for a flat part."""

    tier: int | None
    part: Literal["unit", "flat"]
    quantity: Decimal
    unit_amount: Decimal
    amount: int


def rate(price: dict[str, Any], quantity: Decimal) -> list[Charge]:
    """The lines of a quantity at a price (`tiers` under `_tiers`); a negative quantity is 0."""
    quantity = max(quantity, _NOTHING)
    if price["billing_scheme"] == "tiered":
        tiers = read(price["_tiers"])
        rated = _graduated if price["tiers_mode"] == "graduated" else _volume
        return rated(tiers, quantity)
    unit = Decimal(price["unit_amount_decimal"])
    billed = packages(quantity, price.get("transform_quantity"))
    return [Charge(None, "unit", quantity, unit, rounded(_EXACT.multiply(billed, unit)))]


def packages(quantity: Decimal, transform: dict[str, Any] | None) -> Decimal:
    """The quantity that is multiplied by the price: begun or full packages, if there are any."""
    if transform is None:
        return quantity
    rounding = ROUND_CEILING if transform["round"] == "up" else ROUND_FLOOR
    exact = _EXACT.divide(quantity, Decimal(transform["divide_by"]))
    return exact.to_integral_value(rounding, _EXACT)


def rounded(amount: Decimal) -> int:
    """Whole minor units, half of one away from zero."""
    return int(amount.to_integral_value(ROUND_HALF_UP, _EXACT))


def read(tiers: Sequence[dict[str, Any]]) -> list[Tier]:
    def amount(tier: dict[str, Any], name: str) -> Decimal | None:
        text = tier[f"{name}_amount_decimal"]
        return None if text is None else Decimal(text)

    return [Tier(each["up_to"], amount(each, "unit"), amount(each, "flat")) for each in tiers]


def _graduated(tiers: Sequence[Tier], quantity: Decimal) -> list[Charge]:
    """Every tier that is reached bills its own share; the first one is always reached."""
    charges: list[Charge] = []
    below = _NOTHING
    for number, tier in enumerate(tiers, 1):
        if number > 1 and quantity <= below:
            break
        above = quantity if tier.up_to is None else min(quantity, Decimal(tier.up_to))
        charges += _parts(number, tier, _EXACT.subtract(above, below))
        below = above
    return charges


def _volume(tiers: Sequence[Tier], quantity: Decimal) -> list[Charge]:
    """The one tier that holds the whole quantity bills all of it."""
    for number, tier in enumerate(tiers, 1):
        if tier.up_to is None or quantity <= tier.up_to:
            return _parts(number, tier, quantity)
    raise ValueError("the last tier has an end")


def _parts(number: int, tier: Tier, quantity: Decimal) -> list[Charge]:
    charges = []
    if tier.unit is not None:
        amount = rounded(_EXACT.multiply(quantity, tier.unit))
        charges.append(Charge(number, "unit", quantity, tier.unit, amount))
    if tier.flat is not None:
        charges.append(Charge(number, "flat", _NOTHING, tier.flat, rounded(tier.flat)))
    return charges
