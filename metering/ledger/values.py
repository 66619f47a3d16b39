"""What a good value of an event is, wherever events come in: the rules, and the words for them."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from metering.ledger import literal

MAX_TENANT = 128
MAX_METRIC, MAX_CUSTOMER, MAX_RESOURCE, MAX_SOURCE, MAX_KEY = 100, 255, 255, 64, 255
MAX_META_BYTES = 4096
MAX_META_DEPTH = 32
MAX_INTEGER_DIGITS, MAX_DECIMALS = 20, 12
AHEAD = timedelta(hours=1)
FIRST_YEAR, LATEST_YEAR = 2000, 2100
FIRST_INSTANT = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC)
END_INSTANT = datetime(LATEST_YEAR, 1, 1, tzinfo=UTC)
# Real offsets lie between -12:00 and +14:00; Postgres takes them up to 15:59.
INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?"
    r"(?:Z|[+-](?:0[0-9]|1[0-5]):[0-5][0-9])"
)
# At most two digits of exponent: 1e400 is a mistake, not a quantity.
QUANTITY = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?")


def read_instant(text: str) -> datetime:
    """Parse an instant of the contract's form; ValueError says what is wrong with it."""
    if not INSTANT.fullmatch(text):
        raise ValueError(
            "must be ISO 8601 with seconds and an offset, at most 6 fractional digits,"
            " such as 2025-01-16T14:30:00Z"
        )
    try:
        value = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"is not a real date and time: {error}") from None
    # As instants: at another offset the year that is written may be a neighbour of the real one.
    if not FIRST_INSTANT <= value < END_INSTANT:
        raise ValueError(f"must lie between the years {FIRST_YEAR} and {LATEST_YEAR}")
    return value


def check_not_ahead(occurred_at: datetime, now: datetime) -> None:
    """Raise ValueError for a clock that is more than an hour fast."""
    if occurred_at > now + AHEAD:
        raise ValueError("lies more than 1 hour ahead of the server's clock")


def check_quantity(text: str) -> None:
    """Raise ValueError unless the literal is a quantity that can be held to the digit."""
    if len(text) > 100 or not QUANTITY.fullmatch(text):
        raise ValueError('must be a number, or a string holding one, such as 100, 0.25 or "1e-7"')
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError("must be a number") from None
    if value < 0:
        raise ValueError(
            "must not be negative: to take usage back, void the event or make an adjustment"
        )
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)  # finite, by the pattern
    significant = "".join(map(str, digits)).rstrip("0")
    decimals = max(0, -(exponent + len(digits) - len(significant))) if significant else 0
    integers = max(0, len("".join(map(str, digits)).lstrip("0")) + exponent) if significant else 0
    if integers > MAX_INTEGER_DIGITS:
        raise ValueError(f"must have at most {MAX_INTEGER_DIGITS} digits before the point")
    if decimals > MAX_DECIMALS:
        raise ValueError(f"must have at most {MAX_DECIMALS} decimals")


def check_text(text: str) -> None:
    """Raise ValueError for what Postgres or a JSON reader cannot hold: a NUL, a lone surrogate."""
    if "\x00" in text:
        raise ValueError("must not contain a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain a lone surrogate") from None


def read_meta(value: Any) -> str:
    """A JSON object as compact text with its numbers' digits and its names' order.

    value: as `literal.loads` gives it.  Raises: ValueError for what it may not be.
    """
    if not isinstance(value, literal.Object):
        raise ValueError("must be an object")
    if literal.depth(value) > MAX_META_DEPTH:
        raise ValueError(f"must not be nested deeper than {MAX_META_DEPTH} levels")
    text = literal.compact(value)
    if len(text.encode()) > MAX_META_BYTES:
        raise ValueError(f"must be at most {MAX_META_BYTES} bytes as JSON")
    return text


def is_plain_meta(text: bytes) -> bool:
    """True for JSON text that may be taken as it stands, being an object neither long nor deep."""
    if not text.startswith(b"{") or len(text) > MAX_META_BYTES:
        return False
    # Each level has two brackets: a short text cannot be too deep.
    return len(text) <= 2 * MAX_META_DEPTH or text.count(b"{") + text.count(b"[") <= MAX_META_DEPTH
