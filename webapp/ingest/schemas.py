"""The documented form of ingest: what a good event is, and what an answer looks like."""

from datetime import datetime
from typing import Any

import msgspec
from marshmallow import ValidationError, fields, validate

from metering.ledger import literal, values
from metering.ledger.values import check_not_ahead, check_quantity, read_instant
from webapp.wire import TextField, WireSchema

MAX_EVENTS = 1000


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
            check_not_ahead(read_instant(value), self.context_now)
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
        try:
            return values.read_meta(value)
        except ValueError as error:
            raise ValidationError(str(error)) from None


def _text(most: int, least: int = 1, **kwargs: Any) -> TextField:
    return TextField(validate=validate.Length(min=least, max=most), **kwargs)


class EventSchema(WireSchema):
    """One usage event."""

    tenant_id = TextField(
        required=True,
        validate=[
            validate.Length(min=1, max=values.MAX_TENANT),
            validate.Predicate("isprintable", error="must be printable"),
        ],
        metadata={"example": "your-tenant-id"},
    )
    metric = _text(values.MAX_METRIC, required=True, metadata={"example": "api_calls"})
    customer_ref = _text(values.MAX_CUSTOMER, required=True, metadata={"example": "cus_ABC123"})
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
    idempotency_key = _text(values.MAX_KEY, allow_none=True)
    resource_id = _text(values.MAX_RESOURCE, least=0, allow_none=True)
    meta = MetaField(
        allow_none=True,
        metadata={"type": "object", "description": f"at most {values.MAX_META_BYTES} bytes"},
    )
    source = _text(values.MAX_SOURCE, least=0, allow_none=True)

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
