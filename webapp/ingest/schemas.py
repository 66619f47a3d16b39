"""The documented form of ingest: what a good event is, and what an answer looks like."""

import re
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
from marshmallow import ValidationError, fields, validate

from metering.tenancy.tenants import MAX_ID_LENGTH
from webapp import wire
from webapp.ingest import literal
from webapp.wire import TextField, WireSchema

MAX_EVENTS = 1000
MAX_KEY = 255
MAX_META_BYTES = 4096
MAX_META_DEPTH = 32
MAX_INTEGER_DIGITS, MAX_DECIMALS = 20, 12
AHEAD = timedelta(hours=1)

# At most two digits of exponent: 1e400 is a mistake, not a quantity.
QUANTITY = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?")


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


def check_not_ahead(occurred_at: datetime, now: datetime) -> None:
    """Raise ValueError for a clock that is more than an hour fast."""
    if occurred_at > now + AHEAD:
        raise ValueError("lies more than 1 hour ahead of the server's clock")


class QuantityField(fields.Field[str]):
    """A JSON number or a string with one; its digits are taken as they stand, never a float."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if isinstance(value, literal.Number):
            text = value.digits
        elif isinstance(value, str):
            text = value
        else:
            raise ValidationError("must be a number or a decimal string")
        try:
            check_quantity(text)
        except ValueError as error:
            raise ValidationError(str(error)) from None
        return text


class TimestampField(fields.Field[str]):
    """An instant, kept as the text it came in: Postgres reads the same digits."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise ValidationError("must be a string in ISO 8601 form")
        try:
            check_not_ahead(wire.read_instant(value), self.context_now)
        except ValueError as error:
            raise ValidationError(str(error)) from None
        return value

    @property
    def context_now(self) -> datetime:
        now: datetime = self.root.now  # type: ignore[union-attr]
        return now


class MetaField(fields.Field[str]):
    """A JSON object, kept as compact text with its numbers' digits and its names' order."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, literal.Object):
            raise ValidationError("must be an object")
        if literal.depth(value) > MAX_META_DEPTH:
            raise ValidationError(f"must not be nested deeper than {MAX_META_DEPTH} levels")
        try:
            text = literal.compact(value)
        except ValueError as error:
            raise ValidationError(str(error)) from None
        if len(text.encode()) > MAX_META_BYTES:
            raise ValidationError(f"must be at most {MAX_META_BYTES} bytes as JSON")
        return text


def _text(most: int, least: int = 1, **kwargs: Any) -> TextField:
    return TextField(validate=validate.Length(min=least, max=most), **kwargs)


class EventSchema(WireSchema):
    """One usage event."""

    tenant_id = TextField(
        required=True,
        validate=[
            validate.Length(min=1, max=MAX_ID_LENGTH),
            validate.Predicate("isprintable", error="must be printable"),
        ],
        metadata={"example": "your-tenant-id"},
    )
    metric = _text(100, required=True, metadata={"example": "api_calls"})
    customer_ref = _text(255, required=True, metadata={"example": "cus_ABC123"})
    quantity = QuantityField(
        required=True,
        metadata={
            "oneOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": "^[0-9]{1,20}(\\.[0-9]{1,12})?$"},
            ],
            "description": "≥ 0, at most 20 integer digits and 12 decimals, taken exactly",
            "example": 100,
        },
    )
    ts = TimestampField(
        required=True,
        metadata={
            "type": "string",
            "format": "date-time",
            "description": "when it was used: ISO 8601 with an offset, at most microseconds",
            "example": "2025-01-16T14:30:00Z",
        },
    )
    idempotency_key = _text(MAX_KEY, allow_none=True)
    resource_id = _text(255, least=0, allow_none=True)
    meta = MetaField(
        allow_none=True,
        metadata={"type": "object", "description": f"at most {MAX_META_BYTES} bytes"},
    )
    source = _text(64, least=0, allow_none=True)

    def __init__(self, now: datetime | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.now = now


class BatchSchema(WireSchema):
    """A batch of usage events."""

    events = fields.List(
        fields.Nested(EventSchema), required=True, validate=validate.Length(min=1, max=MAX_EVENTS)
    )


class ResultSchema(WireSchema):
    """What became of one event."""

    index = fields.Integer(required=True)
    idempotency_key = fields.String(required=True, allow_none=True)
    status = fields.String(
        required=True, validate=validate.OneOf(["accepted", "duplicate", "error"])
    )
    error = fields.String()
    derived = fields.Boolean(
        metadata={"description": "the duplicate was found by a key we derived from the content"}
    )


class RefusalSchema(WireSchema):
    """One refused event."""

    index = fields.Integer(required=True)
    error = fields.String(required=True)


class IngestAnswerSchema(WireSchema):
    """The fate of every event, in the order sent."""

    accepted = fields.Integer(required=True)
    duplicates = fields.Integer(required=True)
    rejected = fields.Integer(required=True)
    request_id = fields.String(required=True)
    results = fields.List(fields.Nested(ResultSchema), required=True)
    errors = fields.List(fields.Nested(RefusalSchema))


class Result(msgspec.Struct, rename="camel", omit_defaults=True):
    """One line of the answer, in the shape of `ResultSchema`."""

    index: int
    idempotency_key: str | None = msgspec.field()
    status: str = msgspec.field()
    error: str | msgspec.UnsetType = msgspec.UNSET
    derived: bool | msgspec.UnsetType = msgspec.UNSET
