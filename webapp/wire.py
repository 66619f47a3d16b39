"""How values look on the wire: decimals as plain digits, instants as ISO 8601 with Z."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from flask import Response
from marshmallow import RAISE, Schema, ValidationError, fields

from metering.errors import InvalidInputError
from metering.ledger import values
from metering.ledger.values import FIRST_YEAR
from metering.ledger.values import read_instant as read_instant
from pricing.numbers import plain

_DURATION = re.compile(
    r"-?P(?:(?P<days>[0-9]{1,5})D)?"
    r"(?:T(?:(?P<hours>[0-9]{1,6})H)?(?:(?P<minutes>[0-9]{1,8})M)?(?:(?P<seconds>[0-9]{1,9})S)?)?"
)


def decimal(value: Decimal) -> str:
    """Plain digits without an exponent or trailing zeros: 1E-7 is `0.0000001`, 100.00 is `100`."""
    return plain(value)


def instant(value: datetime) -> str:
    """`2025-01-16T14:30:00Z`, with microseconds only where there are some."""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def read_moment(text: str, now: datetime) -> datetime:
    """Parse an instant, `now`, or a duration back from now such as `-PT24H` or `-P7D`."""
    if text == "now":
        return now
    duration = _DURATION.fullmatch(text)
    if duration and any(duration.groupdict().values()):
        back = timedelta(**{unit: int(n) for unit, n in duration.groupdict().items() if n})
        try:
            moment = now - back
        except OverflowError:
            raise ValueError("lies too far back") from None
        if moment.year < FIRST_YEAR:
            raise ValueError("lies too far back")
        return moment
    return read_instant(text)


class InstantField(fields.Field[datetime]):
    """An instant of the contract's form, aware on this side."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        if not isinstance(value, str):
            raise ValidationError("must be a string in ISO 8601 form")
        try:
            return read_instant(value)
        except ValueError as error:
            raise ValidationError(str(error)) from None


class FlagField(fields.Field[bool]):
    """JSON's true or false and nothing that resembles them."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("must be true or false")
        return value


class TextField(fields.String):
    """A string that Postgres and every JSON reader can hold: no NUL, no lone surrogate."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if text is None:
            raise ValidationError("must be a string")
        check_text(text)
        return text


def check_text(text: str) -> None:
    """Raise ValidationError for a NUL or a lone surrogate."""
    try:
        values.check_text(text)
    except ValueError as error:
        raise ValidationError(str(error)) from None


class WireSchema(Schema):
    """camelCase outside, snake_case inside; a name that is not known is refused, for a misspelt
    one that is silently dropped may be what money hangs on."""

    class Meta:
        unknown = RAISE

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        if field_obj.data_key is None:
            head, *rest = field_name.split("_")
            field_obj.data_key = head + "".join(part.capitalize() for part in rest)


def _encode(value: Any) -> Any:
    if isinstance(value, RawJson):
        return msgspec.Raw(value.text.encode())
    raise TypeError(f"{type(value).__name__} has no form on the wire")


class RawJson:
    """A JSON text that goes out exactly as it is."""

    def __init__(self, text: str) -> None:
        self.text = text


_encoder = msgspec.json.Encoder(enc_hook=_encode)


def answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response. Decimals and instants are to be formatted by the caller."""
    return Response(
        _encoder.encode(body) + b"\n",
        status=status,
        mimetype="application/json",
        headers=dict(headers or {}),
    )


def invalid_field(name: str, message: str) -> InvalidInputError:
    """The error of one query or body field."""
    return InvalidInputError(f"{name} {message}", pointer=f"/{name}")
