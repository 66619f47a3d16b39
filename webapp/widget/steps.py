"""A price as its customer meets it: from which quantity on it costs what."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from pricing.graduated import Graduated
from pricing.numbers import EXACT, ZERO
from pricing.package import Package
from pricing.per_unit import PerUnit
from pricing.price import Price
from pricing.volume import Volume

ENDLESS = Decimal("Infinity")


@dataclass(frozen=True)
class Step:
    """Units used above `lower` up to and including `upper`; free units are a step of their own.

    tier: its place in the price's table; None where it is free units.
    unit, flat: minor units, 0 where there is none.
    """

    lower: Decimal
    upper: Decimal
    unit: Decimal
    flat: Decimal
    tier: int | None

    @property
    def is_free(self) -> bool:
        return not self.unit and not self.flat


def of(price: Price) -> list[Step]:
    """The steps of a price by the unit or by tiers; none of packages and of a fee."""
    if isinstance(price.model, PerUnit):
        table: Sequence[tuple[Decimal, Decimal, Decimal]] = [
            (ENDLESS, price.model.unit_amount, ZERO)
        ]
    elif isinstance(price.model, Graduated | Volume):
        table = [
            (
                ENDLESS if tier.up_to is None else EXACT.add(tier.up_to, price.free_units),
                tier.unit_amount or ZERO,
                tier.flat_amount or ZERO,
            )
            for tier in price.model.tiers
        ]
    else:
        return []
    found = [Step(ZERO, price.free_units, ZERO, ZERO, None)] if price.free_units else []
    lower = price.free_units
    for position, (upper, unit, flat) in enumerate(table):
        found.append(Step(lower, upper, unit, flat, position))
        lower = upper
    return found


def at(steps: Sequence[Step], quantity: Decimal) -> Step:
    """The step that the quantity has reached."""
    return next(step for step in steps if quantity <= step.upper)


def after(steps: Sequence[Step], bound: Decimal) -> Step:
    """The step that begins there."""
    return next(step for step in steps if bound < step.upper)


def bounds(steps: Sequence[Step]) -> list[Decimal]:
    """Where one step ends and the next begins."""
    return [step.upper for step in steps[:-1]]


def included(price: Price) -> Decimal:
    """Up to here nothing is to pay: 0 where the first unit costs something, ENDLESS where none
    does."""
    if price.minimum_charge:
        return ZERO
    if isinstance(price.model, Package):
        if not price.model.unit_amount:
            return ENDLESS
        return EXACT.multiply(price.free_units, Decimal(price.model.size))
    reached = ZERO
    for step in of(price):
        if not step.is_free:
            break
        reached = step.upper
    return reached
