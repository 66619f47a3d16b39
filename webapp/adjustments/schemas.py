"""The form of adjustments: what is asked, and what is told of them."""

from typing import Any

from marshmallow import fields, validate

from metering.counters import adjustments, calendar
from webapp.events.schemas import ListedEventSchema, TimeRangeSchema
from webapp.mappings.fields import QuantityField
from webapp.wire import InstantField, TextField, WireSchema

_INSTANT = {"format": "date-time"}
_DECIMAL = {"description": "decimal string"}
_NOTE = validate.Length(max=adjustments.MAX_NOTE)


class NewAdjustmentSchema(WireSchema):
    """A number of units to add to a customer's metric, or with a minus to take away."""

    tenant_id = TextField(metadata={"description": "required without a key"})
    customer_ref = TextField(required=True, validate=validate.Length(min=1, max=255))
    metric = TextField(required=True, validate=validate.Length(min=1, max=100))
    delta = QuantityField(
        required=True,
        metadata={
            "type": ["string", "number"],
            "description": "units of either sign, not 0; a decimal string or a number",
            "example": "-20",
        },
    )
    reason = fields.String(required=True, validate=validate.OneOf(adjustments.REASONS))
    period_start = InstantField(
        metadata={"description": "any instant within the billing period; now where none is given"}
    )
    note = TextField(validate=_NOTE)


class AdjustmentsQuerySchema(WireSchema):
    """Which adjustments."""

    tenant_id = TextField(metadata={"description": "required without a key"})
    status = fields.String(validate=validate.OneOf(adjustments.STATUSES))
    customer_ref = TextField()
    metric = TextField()
    kind = fields.String(validate=validate.OneOf(adjustments.KINDS))
    reason = fields.String(validate=validate.OneOf(adjustments.REASONS))
    period_start = InstantField(metadata={"description": "the start of their billing period"})
    limit = fields.Integer(load_default=25, validate=validate.Range(min=1, max=100))
    cursor = TextField(validate=validate.Length(max=4000))
    format = fields.String(
        load_default="json",
        validate=validate.OneOf(["json", "csv"]),
        metadata={"description": "csv: all of them as a file, whatever the limit"},
    )


class EventsOfAdjustmentQuerySchema(WireSchema):
    """Which page of an adjustment's events."""

    tenant_id = TextField(metadata={"description": "required without a key"})
    limit = fields.Integer(load_default=100, validate=validate.Range(min=1, max=100))
    cursor = TextField(validate=validate.Length(max=4000))


class DecisionSchema(WireSchema):
    """What is said with a decision."""

    tenant_id = TextField(metadata={"description": "required without a key"})
    note = TextField(validate=_NOTE)


class ApprovalSchema(DecisionSchema):
    """How an adjustment is settled."""

    disposition = fields.String(
        load_default="apply",
        validate=validate.OneOf(adjustments.DISPOSITIONS),
        metadata={
            "description": "apply: it counts in its own period; carry_forward: it counts as a"
            " number in the period that is open now; the others: it is settled outside the meter,"
            " and no total changes"
        },
    )


def _maybe(metadata: dict[str, Any] | None = None) -> Any:
    return fields.String(required=True, allow_none=True, metadata=metadata or {})


class AdjustmentSchema(WireSchema):
    """A decision, proposed or taken, about usage that the counter of a period does not tell."""

    id = fields.String(required=True)
    tenant_id = fields.String(required=True)
    metric = fields.String(required=True)
    customer_ref = fields.String(required=True)
    period_start = fields.String(required=True, metadata=_INSTANT)
    period_end = fields.String(required=True, metadata=_INSTANT)
    period_state = fields.String(required=True, validate=validate.OneOf(calendar.STATES))
    kind = fields.String(required=True, validate=validate.OneOf(adjustments.KINDS))
    delta = _maybe({"description": "units of a delta, as a decimal string; null of events"})
    reason = fields.String(required=True, validate=validate.OneOf(adjustments.REASONS))
    status = fields.String(required=True, validate=validate.OneOf(adjustments.STATUSES))
    disposition = _maybe()
    note = _maybe({"description": "said when it was made; what is said later is in its steps"})
    origin = fields.String(required=True, validate=validate.OneOf(adjustments.ORIGINS))
    events = fields.Integer(
        required=True, metadata={"description": "how many set-aside events it is of"}
    )
    quantity = fields.String(
        required=True,
        metadata={"description": "the sum of its events' quantities, or the delta"},
    )
    carried = _maybe({"description": "units that count in `carriedTo`, of carry_forward"})
    carried_to = fields.Nested(
        TimeRangeSchema,
        required=True,
        allow_none=True,
        metadata={"description": "the later billing period in which a carried one counts"},
    )
    arrived_on = _maybe(
        _INSTANT | {"description": "the UTC day on which its events arrived; null of a delta"}
    )
    created_at = fields.String(required=True, metadata=_INSTANT)
    created_by = fields.String(required=True)
    decided_at = _maybe(_INSTANT)
    decided_by = _maybe()


class AdjustmentsAnswerSchema(WireSchema):
    """A page of adjustments, the latest first."""

    adjustments = fields.List(fields.Nested(AdjustmentSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class EffectSchema(WireSchema):
    """A total without the adjustment and with it applied, by the metric's own aggregation."""

    without = fields.String(required=True, metadata=_DECIMAL)
    applied = fields.String(required=True, metadata=_DECIMAL)
    difference = fields.String(required=True, metadata=_DECIMAL)


def _money() -> Any:
    return _maybe({"description": "decimal string in major units"})


def _minor() -> Any:
    return fields.Integer(required=True, allow_none=True)


class MoneyEffectSchema(WireSchema):
    """What that total costs; null without a price, and `warning` then says why."""

    currency = _maybe()
    without = _money()
    without_minor = _minor()
    applied = _money()
    applied_minor = _minor()
    difference = _money()
    difference_minor = _minor()
    warning = fields.String()


class CarriedChangeSchema(WireSchema):
    """What carrying it forward does or would do to the period that it counts in."""

    period_start = fields.String(required=True, metadata=_INSTANT)
    period_end = fields.String(required=True, metadata=_INSTANT)
    effect = fields.Nested(EffectSchema, required=True)
    money = fields.Nested(MoneyEffectSchema, required=True)


class AdjustmentStepSchema(WireSchema):
    """One thing that was done to it."""

    action = fields.String(required=True)
    disposition = _maybe()
    actor = fields.String(required=True)
    note = _maybe()
    at = fields.String(required=True, metadata=_INSTANT)


class AdjustmentDetailSchema(AdjustmentSchema):
    """An adjustment, what it does to totals and money, its events and its history."""

    aggregation = fields.String(required=True)
    effect = fields.Nested(EffectSchema, required=True)
    money = fields.Nested(MoneyEffectSchema, required=True)
    carry_forward = fields.Nested(CarriedChangeSchema, required=True)
    first_events = fields.List(fields.Nested(ListedEventSchema), required=True)
    next_events_cursor = _maybe({"description": "for the rest, at `/v1/adjustments/{id}/events`"})
    steps = fields.List(fields.Nested(AdjustmentStepSchema), required=True)


class EventsOfAdjustmentSchema(WireSchema):
    """A page of an adjustment's events, by id."""

    events = fields.List(fields.Nested(ListedEventSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)
