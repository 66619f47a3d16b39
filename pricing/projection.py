"""Where a period's usage is heading, from what was used so far."""

from decimal import ROUND_HALF_UP, Decimal

# Twelve decimals is what a quantity may have on the wire; a projection claims no more.
_QUANTUM = Decimal("1e-12")


def extrapolate(quantity: Decimal, elapsed_seconds: Decimal, period_seconds: Decimal) -> Decimal:
    """Stretch the usage so far evenly over the whole period.

    elapsed_seconds: of the period, 0 <= elapsed <= period_seconds; at 0 nothing is known and the
                     quantity itself is returned.
    Only for what accumulates (sum, count); a maximum or a gauge does not grow with time.
    """
    if not 0 <= elapsed_seconds <= period_seconds:
        raise ValueError("elapsed time must lie within the period")
    if elapsed_seconds == 0:
        return quantity
    # Multiply before dividing: at the period's end the result is the quantity, to the digit.
    projected = quantity * period_seconds / elapsed_seconds
    if projected == quantity:
        return quantity
    return projected.quantize(_QUANTUM, rounding=ROUND_HALF_UP)
