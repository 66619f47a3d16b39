"""Exact decimal arithmetic, and numbers as people and programs write them.

Python's default context keeps 28 digits and rounds the rest away without a word. This one keeps
120 and refuses to lose any: a result that would not fit raises instead of being nearly right.
"""

import re
from decimal import (
    ROUND_HALF_UP,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
)
from typing import Any

from pricing.errors import PricingError

EXACT = Context(
    prec=120, rounding=ROUND_HALF_UP, traps=[InvalidOperation, DivisionByZero, Overflow, Inexact]
)
ZERO = Decimal(0)

# Stripe's own bound on `unit_amount_decimal`, and ours on what a quantity may have.
MAX_DECIMALS = 12
# Beyond any real usage or price; far within what EXACT multiplies without loss.
MAX_QUANTITY = Decimal(10) ** 30
MAX_AMOUNT = Decimal(10) ** 18

_PLAIN = re.compile(r"[+-]?[0-9]{1,60}(\.[0-9]{1,60})?([eE][+-]?[0-9]{1,2})?")


def decimal(value: Any, field: str) -> Decimal:
    """The number that is written there, to the digit.

    value: an int, a Decimal, a string of plain digits, or a float, which is taken as it prints
           (0.1 is one tenth). True, NaN, infinities and "1_000" are no numbers.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise PricingError(field, "must be a number or a decimal string")
    if isinstance(value, int) and abs(value) >= 10**60:
        raise PricingError(field, "is too large")
    text = repr(value) if isinstance(value, float) else str(value)
    if not _PLAIN.fullmatch(text):
        if isinstance(value, Decimal) and value.is_finite():
            raise PricingError(field, "is too large or has too many decimals")
        raise PricingError(field, f"is not a plain decimal number: {text[:40]!r}")
    return Decimal(text)


def bounded(
    value: Any,
    field: str,
    *,
    least: Decimal = ZERO,
    below: Decimal = MAX_QUANTITY,
    decimals: int = MAX_DECIMALS,
) -> Decimal:
    """The number, if `least <= number < below` and it has at most so many decimals."""
    number = decimal(value, field)
    if number < least:
        wanted = "must not be negative" if least == 0 else f"must be at least {least:f}"
        raise PricingError(field, wanted)
    if number >= below:
        raise PricingError(field, f"must be less than 10^{below.adjusted()}")
    if decimals_of(number) > decimals:
        wanted = f"has more than {decimals} decimals" if decimals else "must be a whole number"
        raise PricingError(field, wanted)
    return number


def decimals_of(number: Decimal) -> int:
    """How many decimals the number needs: 2.50 needs one."""
    exponent = number.normalize(EXACT).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def plain(number: Decimal) -> str:
    """Digits without an exponent or trailing zeros."""
    digits = f"{number:f}"
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return "0" if digits in ("-0", "") else digits
