"""The share of a period that something was there for, as an exact fraction."""

from datetime import datetime
from decimal import Decimal, Inexact
from fractions import Fraction

from pricing.errors import PricingError
from pricing.money import Currency, quantized, rounded
from pricing.numbers import EXACT, MAX_DECIMALS


def share(start: datetime, end: datetime, period_start: datetime, period_end: datetime) -> Fraction:
    """How much of the period lies in `[start, end)`, by the second, as Stripe prorates.

    Raises: PricingError if either span is empty or `[start, end)` reaches outside the period.
    """
    if period_start >= period_end:
        raise PricingError("period_end", "must lie after the period's start")
    if not period_start <= start < end <= period_end:
        raise PricingError("active_from", "must lie within the period, before its end")
    return Fraction(_seconds(start, end)) / Fraction(_seconds(period_start, period_end))


def prorated(amount: Decimal, part: Fraction, of: Currency) -> int:
    """A share of an amount in minor units, rounded once.

    The product is exact until then: a quotient is never rounded first.
    """
    # The nearest representable number decides no tie wrongly: a tie's decimals end.
    return rounded(_share_of(amount, part), of)


def shared(amount: Decimal, part: Fraction) -> Decimal:
    """The same share unrounded, to twelve decimals where it does not end sooner."""
    return quantized(_share_of(amount, part), MAX_DECIMALS)


def _share_of(amount: Decimal, part: Fraction) -> Decimal:
    numerator = EXACT.multiply(amount, Decimal(part.numerator))
    return _WIDE.divide(numerator, Decimal(part.denominator))


_WIDE = EXACT.copy()
_WIDE.traps[Inexact] = False


def _seconds(start: datetime, end: datetime) -> Fraction:
    delta = end - start
    return Fraction(delta.days * 86_400 + delta.seconds) + Fraction(delta.microseconds, 1_000_000)
