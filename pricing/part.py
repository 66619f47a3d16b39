"""What a charge is made of: the lines that Stripe prints for one price."""

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Part:
    """One line, exact.

    kind:        unit (quantity × unit_amount), flat (a tier's flat price), package (packages ×
                 unit_amount), fee, or what a bound adds: minimum, maximum.
    tier:        its position in the table, or None.
    exact:       minor units, unrounded.
    amount:      minor units as invoiced; set by the price, which knows the currency.
    """

    kind: str
    tier: int | None
    quantity: Decimal
    unit_amount: Decimal
    exact: Decimal
    amount: int = 0
