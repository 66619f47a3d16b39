"""All units at the price of the tier that the whole quantity reaches.

The charge may fall as usage grows: 101 units in a cheaper tier can cost less than 100.
"""

from bisect import bisect_left
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from pricing.part import Part
from pricing.tiered import Tiered, tier_parts


@dataclass(frozen=True, slots=True)
class Volume(Tiered):
    """Source: Stripe Billing, `tiers_mode=volume`."""

    kind: ClassVar[str] = "volume"

    def parts(self, quantity: Decimal, zero_usage: str) -> list[Part]:
        """The lines of the one tier."""
        position = bisect_left(self._bounds, quantity)
        return tier_parts(self.tiers[position], position, quantity, zero_usage)
