"""Where a page of a list ended, as an opaque text that the next request brings back."""

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import datetime

from metering.errors import InvalidInputError
from webapp import wire


def write(place: Sequence[object]) -> str:
    """The place as a text; instants in ISO 8601, everything else as it prints."""
    parts = [each.isoformat() if isinstance(each, datetime) else str(each) for each in place]
    text = json.dumps(parts, ensure_ascii=False)
    return base64.urlsafe_b64encode(text.encode()).decode()


def read(text: str, parts: int) -> list[str]:
    """The parts of a place; InvalidInputError if it is none of ours."""
    try:
        place = json.loads(base64.urlsafe_b64decode(text.encode()))
    except (ValueError, binascii.Error, RecursionError):
        raise refused() from None
    if not isinstance(place, list) or len(place) != parts:
        raise refused()
    for each in place:
        if not isinstance(each, str) or not _is_storable(each):
            raise refused()
    return place


def read_place(text: str) -> tuple[datetime, str]:
    """A place made of an instant and an id."""
    at, key = read(text, 2)
    try:
        instant = datetime.fromisoformat(at)
    except ValueError:
        raise refused() from None
    if instant.tzinfo is None:
        raise refused()
    return instant, key


def refused() -> InvalidInputError:
    return wire.invalid_field("cursor", "is not one that this API gave")


def _is_storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text
