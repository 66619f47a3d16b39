"""The form of an event's walk, and of dead letters."""

from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from metering.proof import steps
from webapp.events.schemas import STATUSES, ListedEventSchema
from webapp.wire import FlagField, TextField, WireSchema

MOST_KEY = 255


class WalkQuerySchema(WireSchema):
    """Which event."""

    tenant_id = TextField(required=False, metadata={"description": "required without a key"})
    id = TextField(
        required=True,
        validate=validate.Length(min=1, max=MOST_KEY),
        metadata={"description": "the event's idempotency key"},
    )


class StepSchema(WireSchema):
    """One step of an event's way to the bill."""

    step = fields.String(required=True, validate=validate.OneOf(steps.NAMES))
    status = fields.String(required=True, validate=validate.OneOf(steps.STATUSES))
    at = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})
    sentence = fields.String(required=True, metadata={"description": "what is so, and why"})
    facts = fields.Dict(required=True, metadata={"description": "what the sentence is made of"})


class FirstNotDoneSchema(WireSchema):
    """The first step that is not done, and why."""

    step = fields.String(required=True, validate=validate.OneOf(steps.NAMES))
    status = fields.String(required=True, validate=validate.OneOf(steps.STATUSES))
    sentence = fields.String(required=True)


class LaneSchema(WireSchema):
    """The way from the counter to the invoice in one mode."""

    lane = fields.String(required=True, validate=validate.OneOf(["live", "shadow", "test"]))
    mode = fields.String(required=True, validate=validate.OneOf(["live", "test"]))
    steps = fields.List(fields.Nested(StepSchema), required=True)
    first_not_done = fields.Nested(FirstNotDoneSchema, required=True, allow_none=True)


class WalkAnswerSchema(WireSchema):
    """An event's way to the bill: `steps` in common until the counter, then a lane for each mode.
    `firstNotDone` is of the lane that bills; null: the event is on a final invoice."""

    event = fields.Nested(ListedEventSchema, required=True)
    status = fields.String(required=True, validate=validate.OneOf(STATUSES))
    steps = fields.List(fields.Nested(StepSchema), required=True)
    lanes = fields.List(fields.Nested(LaneSchema), required=True)
    first_not_done = fields.Nested(FirstNotDoneSchema, required=True, allow_none=True)
    as_of = fields.String(required=True, metadata={"format": "date-time"})


class LettersQuerySchema(WireSchema):
    """A page of dead letters."""

    tenant_id = TextField(required=False, metadata={"description": "required without a key"})
    limit = fields.Integer(load_default=25, validate=validate.Range(min=1, max=100))
    cursor = TextField(validate=validate.Length(max=4000))


class LetterSchema(WireSchema):
    """An event that the database refused to count."""

    id = fields.String(required=True)
    metric = fields.String(required=True)
    customer_ref = fields.String(required=True)
    quantity = fields.String(required=True, metadata={"description": "decimal string"})
    timestamp = fields.String(required=True, metadata={"format": "date-time"})
    recorded_at = fields.String(required=True, metadata={"format": "date-time"})
    error = fields.String(required=True, metadata={"description": "why, in words"})
    failed_at = fields.String(required=True, metadata={"format": "date-time"})
    void = fields.Boolean(required=True, metadata={"description": "void: it is not sent again"})


class LettersAnswerSchema(WireSchema):
    """Dead letters by id."""

    total = fields.Integer(required=True, metadata={"description": "exact up to 10,000"})
    total_is_lower_bound = fields.Boolean(required=True)
    dead_letters = fields.List(fields.Nested(LetterSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class ResendBodySchema(WireSchema):
    """Which dead letters are counted again: those of `ids`, or with `all` every one."""

    tenant_id = TextField(required=False, metadata={"description": "required without a key"})
    ids = fields.List(
        TextField(validate=validate.Length(min=1, max=MOST_KEY)),
        validate=validate.Length(min=1, max=1000),
    )
    all = FlagField()

    @validates_schema
    def one_of_both(self, data: dict[str, Any], **kwargs: Any) -> None:
        if ("ids" in data) == bool(data.get("all")):
            raise ValidationError("give either ids, or all: true", field_name="ids")


class ResentSchema(WireSchema):
    """How many go back to be counted, and how many were left alone because they are void."""

    resent = fields.Integer(required=True)
    void = fields.Integer(required=True)
