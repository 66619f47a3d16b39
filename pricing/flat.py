"""A fixed fee, whatever was used."""

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from pricing.numbers import MAX_AMOUNT, bounded
from pricing.part import Part


@dataclass(frozen=True, slots=True)
class Flat:
    """amount: minor units a period. In Stripe: a licensed price with a quantity of one."""

    kind: ClassVar[str] = "flat"
    amount: Decimal

    def __post_init__(self) -> None:
        bounded(self.amount, "flat_amount", below=MAX_AMOUNT)

    def charge(self, quantity: Decimal, zero_usage: str) -> Decimal:
        """The fee itself, minor units."""
        return self.amount

    def parts(self, quantity: Decimal, zero_usage: str) -> list[Part]:
        return [Part("fee", None, Decimal(1), self.amount, self.amount)]
