"""Decimals as texts: read strictly, written plainly, never with an exponent."""

import re
from decimal import Decimal

from sandbox.stripe.core import StripeError

PLACES = 12
_PLAIN = re.compile(r"-?\d+(\.\d+)?|-?\.\d+", re.ASCII)


def read(text: str, param: str, places: int = PLACES) -> Decimal:
    """Raises: StripeError (400) for no plain decimal, or one of more than `places` places."""
    if not _PLAIN.fullmatch(text):
        raise StripeError(400, f"Invalid decimal: {text}", param=param)
    if len(text.partition(".")[2].rstrip("0")) > places:
        message = f"Invalid decimal: {text}; must contain at maximum {places} decimal places."
        raise StripeError(400, message, code="parameter_invalid_decimal", param=param)
    return Decimal(text)


def written(value: Decimal) -> str:
    """Without trailing zeros: 3.60 is `3.6`, 1E+3 is `1000`."""
    text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def whole(value: Decimal) -> int | None:
    """The whole number that it is, if it is one."""
    return int(value) if value == value.to_integral_value() else None
