"""Numbers as Stripe's meter events take them: at most 15 significant digits, no exponent."""

from decimal import ROUND_DOWN, Context, Decimal

SIGNIFICANT = 15
_TRUNCATING = Context(prec=SIGNIFICANT, rounding=ROUND_DOWN)


def truncated(value: Decimal) -> Decimal:
    """The value cut toward zero to 15 significant digits."""
    return _TRUNCATING.plus(value)


def plain(value: Decimal) -> str:
    """The value without an exponent."""
    return f"{value:f}"
