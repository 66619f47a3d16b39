"""Each tier's units at that tier's price."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from pricing.money import Currency, rounded
from pricing.numbers import EXACT, ZERO
from pricing.part import Part
from pricing.tiered import Tiered, tier_parts


@dataclass(frozen=True, slots=True)
class Graduated(Tiered):
    """A tier's flat price is due as soon as one unit, or part of one, reaches it.

    Source: Stripe Billing, `tiers_mode=graduated`.
    """

    kind: ClassVar[str] = "graduated"

    def parts(self, quantity: Decimal, zero_usage: str) -> list[Part]:
        """A line for each tier's units and one for its flat price, as Stripe prints them."""
        found: list[Part] = []
        lower = ZERO
        for position, tier in enumerate(self.tiers):
            upper = quantity if tier.up_to is None else min(quantity, tier.up_to)
            units = EXACT.subtract(upper, lower)
            found += tier_parts(tier, position, units, zero_usage)
            if tier.up_to is None or quantity <= tier.up_to:
                break
            lower = tier.up_to
        return found

    def compiled(self, currency: Currency, zero_usage: str) -> Callable[[Decimal], int]:
        """The invoiced amount as a function with the full tiers' lines summed up beforehand.

        For re-pricing by the hundred thousand; a property test holds it equal to the parts.
        """
        full, lower = 0, ZERO
        rows: list[tuple[int, Decimal, Decimal]] = []
        for position, tier in enumerate(self.tiers):
            flat = rounded(tier.flat_amount, currency) if tier.flat_amount else 0
            rows.append((full + flat, lower, tier.unit_amount or ZERO))
            if tier.up_to is not None:
                units = EXACT.subtract(tier.up_to, lower)
                parts = tier_parts(tier, position, units, zero_usage)
                full += sum(rounded(part.exact, currency) for part in parts)
                lower = tier.up_to
        nothing = sum(rounded(part.exact, currency) for part in self.parts(ZERO, zero_usage))
        bounds, multiply, subtract = self._bounds, EXACT.multiply, EXACT.subtract

        def amount(quantity: Decimal) -> int:
            if not quantity:
                return nothing
            base, begins, unit = rows[bisect_left(bounds, quantity)]
            return base + rounded(multiply(subtract(quantity, begins), unit), currency)

        return amount
