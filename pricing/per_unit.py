"""Quantity × price, each unit the same."""

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from pricing.numbers import EXACT, MAX_AMOUNT, bounded
from pricing.part import Part


@dataclass(frozen=True, slots=True)
class PerUnit:
    """unit_amount: minor units per unit, up to 12 decimals. Source: Stripe, `per_unit`."""

    kind: ClassVar[str] = "per_unit"
    unit_amount: Decimal

    def __post_init__(self) -> None:
        bounded(self.unit_amount, "unit_amount", below=MAX_AMOUNT)

    def charge(self, quantity: Decimal, zero_usage: str) -> Decimal:
        """The exact charge, minor units."""
        return EXACT.multiply(quantity, self.unit_amount)

    def parts(self, quantity: Decimal, zero_usage: str) -> list[Part]:
        exact = self.charge(quantity, zero_usage)
        return [Part("unit", None, quantity, self.unit_amount, exact)]
