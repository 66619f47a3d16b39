"""The form of an event's walk, and of dead letters."""

from marshmallow import fields, validate

from metering.proof import steps
from webapp.events.schemas import STATUSES, ListedEventSchema
from webapp.wire import TextField, WireSchema

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
