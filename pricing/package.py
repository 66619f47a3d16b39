"""Packages of so many units; begun ones count whole, or not at all."""

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from pricing.errors import PricingError
from pricing.numbers import EXACT, MAX_AMOUNT, bounded
from pricing.part import Part

ROUNDINGS = ("up", "down")


@dataclass(frozen=True, slots=True)
class Package:
    """unit_amount: minor units a package of `size` units.

    round: up, a begun package is paid (101 of 100 are two); down, only full ones are.
    Source: Stripe, `transform_quantity {divide_by, round}`.
    """

    kind: ClassVar[str] = "package"
    unit_amount: Decimal
    size: int
    round: str = "up"

    def __post_init__(self) -> None:
        bounded(self.unit_amount, "unit_amount", below=MAX_AMOUNT)
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise PricingError("package_size", "must be a whole number of at least 1")
        bounded(self.size, "package_size")
        if self.round not in ROUNDINGS:
            raise PricingError("round", "must be 'up' or 'down'")

    def billed(self, quantity: Decimal) -> Decimal:
        """How many packages the quantity makes."""
        full, rest = EXACT.divmod(quantity, Decimal(self.size))
        return EXACT.add(full, Decimal(1)) if rest and self.round == "up" else full

    def charge(self, packages: Decimal, zero_usage: str) -> Decimal:
        """The exact charge of so many packages, minor units."""
        return EXACT.multiply(packages, self.unit_amount)

    def parts(self, packages: Decimal, zero_usage: str) -> list[Part]:
        exact = self.charge(packages, zero_usage)
        return [Part("package", None, packages, self.unit_amount, exact)]
