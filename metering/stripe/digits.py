"""Quantities as Stripe's meters take them: plain digits, at most fifteen that count.

Stripe adds meter events up in double precision and therefore refuses values of more than 15
significant digits (code `meter_event_value_too_many_digits`, since API 2026-04-22). Whether it
counts the zeros of 1000000000000000 is not said anywhere, so nothing of 16 digits before the
point is ever sent.
"""

from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Context, Decimal, Inexact, InvalidOperation

SIGNIFICANT_DIGITS = 15
LARGEST = Decimal(10) ** SIGNIFICANT_DIGITS - 1
_DOWN = Context(prec=SIGNIFICANT_DIGITS, rounding=ROUND_DOWN, traps=[InvalidOperation])
_NEAREST = Context(prec=SIGNIFICANT_DIGITS, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation])
_EXACT = Context(prec=SIGNIFICANT_DIGITS, traps=[InvalidOperation, Inexact])


def truncated(value: Decimal) -> Decimal:
    """The part of a quantity that one meter event can carry: toward zero, to 15 digits.

    What is left goes with the next delta. It is smaller by fifteen orders of magnitude, but for a
    quantity beyond `LARGEST`, which takes several events.
    """
    if _finite(value).copy_abs() > LARGEST:
        return LARGEST.copy_sign(value)
    return value.normalize(_DOWN)


def quantised(value: Decimal) -> Decimal:
    """A total as Stripe reports it, freed of what double precision added beyond 15 digits.

    0.30000000000000004 is 0.3. Rounds half to even.
    """
    return _finite(value).normalize(_NEAREST)


def wire(value: Decimal) -> str:
    """The digits that are sent: no exponent, no trailing zeros after the point, no `-0`.

    Raises: ValueError if there are more than 15 significant digits; nothing is ever rounded here.
    """
    try:
        exact = _finite(value).normalize(_EXACT)
    except Inexact:
        exact = None
    if exact is None or exact.copy_abs() > LARGEST:
        raise ValueError(f"{value} has more than {SIGNIFICANT_DIGITS} significant digits")
    return "0" if exact == 0 else f"{exact:f}"


def _finite(value: Decimal) -> Decimal:
    if not value.is_finite():
        raise ValueError(f"{value} is not a quantity")
    return value
