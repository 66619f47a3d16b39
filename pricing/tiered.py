"""What both tiered models share: a checked table, and a charge that is the sum of its lines."""

from dataclasses import dataclass, field
from decimal import Decimal

from pricing import tiers
from pricing.numbers import EXACT, ZERO
from pricing.part import Part
from pricing.tiers import Tier


@dataclass(frozen=True, slots=True)
class Tiered:
    """A tier table; which of its tiers price what is the model's own."""

    tiers: tuple[Tier, ...]
    # The inclusive bounds, of all tiers but the last.
    _bounds: tuple[Decimal, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tiers.check(self.tiers)
        bounds = tuple(tier.up_to for tier in self.tiers if tier.up_to is not None)
        object.__setattr__(self, "_bounds", bounds)

    def parts(self, quantity: Decimal, zero_usage: str) -> list[Part]:
        """The lines for `quantity` units >= 0, exact."""
        raise NotImplementedError

    def charge(self, quantity: Decimal, zero_usage: str) -> Decimal:
        """The exact charge for `quantity` units >= 0, minor units.

        7 units at 0.15 cents are Decimal("1.05"): rounding is not done here.
        """
        total = ZERO
        for part in self.parts(quantity, zero_usage):
            total = EXACT.add(total, part.exact)
        return total


def tier_parts(tier: Tier, position: int, units: Decimal, zero_usage: str) -> list[Part]:
    """One tier's lines for so many units in it, as Stripe prints them."""
    found: list[Part] = []
    if tier.unit_amount is not None:
        exact = EXACT.multiply(units, tier.unit_amount)
        found.append(Part("unit", position, units, tier.unit_amount, exact))
    if tier.flat_amount is not None and (units or zero_usage == "first_tier_flat"):
        found.append(Part("flat", position, Decimal(1), tier.flat_amount, tier.flat_amount))
    return found
