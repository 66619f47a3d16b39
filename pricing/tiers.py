"""Tier tables: bounds are inclusive, ascend, and the last one is open."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from pricing.errors import PricingError
from pricing.numbers import MAX_AMOUNT, bounded

MAX_TIERS = 1000


@dataclass(frozen=True, slots=True)
class Tier:
    """Units up to and including `up_to`; None: all the rest.

    unit_amount, flat_amount: minor units; None: no such line, where 0 makes a line of 0.
    """

    up_to: Decimal | None
    unit_amount: Decimal | None = None
    flat_amount: Decimal | None = None


def check(tiers: Sequence[Tier]) -> None:
    """Raise PricingError unless every quantity falls into exactly one tier."""
    if not tiers:
        raise PricingError("tiers", "must hold at least one tier")
    if len(tiers) > MAX_TIERS:
        raise PricingError("tiers", f"holds more than {MAX_TIERS} tiers")
    lower = Decimal(0)
    for position, tier in enumerate(tiers):
        at = f"tiers/{position}"
        for name, amount in (("unit_amount", tier.unit_amount), ("flat_amount", tier.flat_amount)):
            if amount is not None:
                bounded(amount, f"{at}/{name}", below=MAX_AMOUNT)
        if tier.unit_amount is None and tier.flat_amount is None:
            raise PricingError(at, "needs a price per unit, a flat price, or both")
        _check_bound(tier.up_to, lower, f"{at}/up_to", is_last=position == len(tiers) - 1)
        lower = tier.up_to if tier.up_to is not None else lower


def _check_bound(up_to: Decimal | None, lower: Decimal, field: str, *, is_last: bool) -> None:
    if up_to is None:
        if not is_last:
            raise PricingError(field, "is open, but only the last tier may be")
        return
    if is_last:
        raise PricingError(
            field, f"leaves a gap: usage above {up_to:f} has no price; leave the last tier open"
        )
    bounded(up_to, field)
    if up_to <= lower:
        other = "0" if lower == 0 else f"{lower:f}, where the tier before it ends"
        raise PricingError(field, f"overlaps: must be greater than {other}")
