"""The form of voiding and restoring an event."""

from marshmallow import fields, validate

from metering.counters import voids
from webapp.events.schemas import STATUSES, TimeRangeSchema
from webapp.wire import TextField, WireSchema

_INSTANT = {"format": "date-time"}


class VoidSchema(WireSchema):
    """Which event, and why."""

    tenant_id = TextField(metadata={"description": "required without a key"})
    id = TextField(
        required=True,
        validate=validate.Length(min=1, max=255),
        metadata={"description": "the event's idempotency key"},
    )
    reason = TextField(required=True, validate=validate.Length(min=1, max=voids.MAX_REASON))


class VoidStepSchema(WireSchema):
    """One voiding or restoring."""

    action = fields.String(required=True, validate=validate.OneOf(["void", "restore"]))
    reason = fields.String(required=True)
    actor = fields.String(required=True)
    at = fields.String(required=True, metadata=_INSTANT)


class VoidedSchema(WireSchema):
    """Where the event stands now, and what its period's total became."""

    id = fields.String(required=True)
    tenant_id = fields.String(required=True)
    status = fields.String(required=True, validate=validate.OneOf(STATUSES))
    metric = fields.String(required=True)
    customer_ref = fields.String(required=True)
    quantity = fields.String(required=True, metadata={"description": "of the event"})
    reason = fields.String(required=True, metadata={"description": "of the last step"})
    actor = fields.String(required=True)
    at = fields.String(required=True, metadata=_INSTANT)
    period = fields.Nested(TimeRangeSchema, required=True)
    total = fields.String(
        required=True,
        metadata={"description": "of the period, by the metric's own aggregation"},
    )
    steps = fields.List(fields.Nested(VoidStepSchema), required=True)
