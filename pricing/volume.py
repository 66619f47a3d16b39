"""All units at the price of the tier that the whole quantity reaches.

The charge may fall as usage grows: 101 units in a cheaper tier can cost less than 100.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import ClassVar

from pricing import tiers
from pricing.graduated import tier_parts
from pricing.numbers import EXACT, ZERO
from pricing.part import Part
from pricing.tiers import Tier


@dataclass(frozen=True, slots=True)
class Volume:
    """Source: Stripe Billing, `tiers_mode=volume`."""

    kind: ClassVar[str] = "volume"
    tiers: tuple[Tier, ...]
    _bounds: tuple[Decimal, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tiers.check(self.tiers)
        bounds = tuple(tier.up_to for tier in self.tiers if tier.up_to is not None)
        object.__setattr__(self, "_bounds", bounds)

    def charge(self, quantity: Decimal, zero_usage: str) -> Decimal:
        """The exact charge, minor units."""
        total = ZERO
        for part in self.parts(quantity, zero_usage):
            total = EXACT.add(total, part.exact)
        return total

    def parts(self, quantity: Decimal, zero_usage: str) -> list[Part]:
        position = tiers.position_of(self._bounds, quantity)
        return tier_parts(self.tiers[position], position, quantity, zero_usage)
