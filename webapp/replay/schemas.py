"""The form of a replay and of what it answers."""

from typing import Any

from marshmallow import fields, validate

from webapp.events.schemas import TimeRangeSchema
from webapp.wire import FlagField, TextField, WireSchema

MODES = ("dry-run", "apply")
_INSTANT = {"format": "date-time"}
_DECIMAL = {"description": "decimal string"}


class ReplayBodySchema(WireSchema):
    """What to go over, and whether to change anything: by default nothing is changed."""

    tenant_id = TextField(metadata={"example": "your-tenant-id"})
    metrics = fields.List(
        TextField(validate=validate.Length(min=1, max=100)),
        allow_none=True,
        validate=validate.Length(min=1, max=100),
        metadata={"description": "all by default"},
    )
    customer_ref = TextField(allow_none=True, validate=validate.Length(min=1, max=255))
    since = TextField(
        allow_none=True,
        metadata={
            "description": "instant, `now` or a duration back: -PT24H, -P7D; by default the start"
            " of the oldest open period. The range is widened to whole UTC hours"
        },
    )
    until = TextField(allow_none=True, metadata={"description": "as since; `now` by default"})
    mode = fields.String(allow_none=True, validate=validate.OneOf(MODES))
    dry_run = FlagField(allow_none=True, metadata={"description": "instead of mode"})
    cursor = TextField(
        allow_none=True, metadata={"description": "of the answer before, to the same question"}
    )


class ChangesSchema(WireSchema):
    """One metric in the stretch that this answer is about."""

    events_found = fields.Integer(
        required=True, metadata={"description": "events of the ledger that belong into counters"}
    )
    late_events = fields.Integer(
        required=True,
        metadata={
            "description": "events that are set aside: they stay so, and are not judged anew"
        },
    )
    counter_delta = fields.String(required=True, metadata=_DECIMAL)
    affected_customers = fields.Integer(required=True)


def _minor() -> Any:
    return fields.Integer(
        required=True, allow_none=True, metadata={"description": "whole minor units, such as cents"}
    )


def _money() -> Any:
    return fields.String(
        required=True, allow_none=True, metadata={"description": "decimal string in major units"}
    )


class CustomerChangeSchema(WireSchema):
    """What changes of one customer's metric in one billing period."""

    customer_ref = fields.String(required=True)
    metric = fields.String(required=True)
    period = fields.Nested(TimeRangeSchema, required=True)
    aggregation = fields.String(required=True)
    before = fields.String(required=True, metadata=_DECIMAL)
    after = fields.String(required=True, metadata=_DECIMAL)
    delta = fields.String(required=True, metadata=_DECIMAL)
    currency = fields.String(required=True, allow_none=True)
    amount_before = _money()
    amount_before_minor = _minor()
    amount_after = _money()
    amount_after_minor = _minor()
    warning = fields.String(metadata={"description": "why there is no amount"})


class StripeDeltaSchema(WireSchema):
    """What Stripe lacks of the segments that change, with what it was to be sent anyhow."""

    mode = fields.String(required=True)
    customer_ref = fields.String(required=True)
    metric = fields.String(required=True)
    quantity = fields.String(required=True, metadata=_DECIMAL)
    warning = fields.String(metadata={"description": "why it is not sent"})


class ClosedSchema(WireSchema):
    """A closed period of which the counter is not what the ledger says; it stays as it is."""

    customer_ref = fields.String(required=True)
    metric = fields.String(required=True)
    period = fields.Nested(TimeRangeSchema, required=True)
    segments = fields.Integer(required=True)
    events = fields.Integer(required=True, metadata={"description": "ledger less counter"})
    quantity = fields.String(required=True, metadata={"description": "ledger less counter"})
    reason = fields.String(required=True)


class AppliedSchema(WireSchema):
    """How many rows were written."""

    segments = fields.Integer(required=True)
    counters = fields.Integer(required=True)
    members = fields.Integer(required=True)


class ReplayAnswerSchema(WireSchema):
    """One stretch of the range; the whole of it has been gone over once `cursor` is null."""

    mode = fields.String(required=True, validate=validate.OneOf(MODES))
    tenant_id = fields.String(required=True)
    metrics = fields.List(fields.String(), required=True)
    time_range = fields.Nested(TimeRangeSchema, required=True)
    changes = fields.Dict(keys=fields.String(), values=fields.Nested(ChangesSchema), required=True)
    customers = fields.List(fields.Nested(CustomerChangeSchema), required=True)
    stripe = fields.List(fields.Nested(StripeDeltaSchema), required=True)
    closed = fields.List(fields.Nested(ClosedSchema), required=True)
    cursor = fields.String(required=True, allow_none=True)
    watermark = fields.String(required=True, allow_none=True, metadata=_INSTANT)
    applied = fields.Nested(AppliedSchema)
    summary = fields.String(required=True)
