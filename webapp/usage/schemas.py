"""The form of usage, its history and its projection."""

from typing import Any

from marshmallow import fields, validate

from metering.billing.projection import BASES
from metering.counters import calendar
from metering.counters.history import INTERVALS
from webapp.events.schemas import TimeRangeSchema
from webapp.wire import InstantField, TextField, WireSchema

_INSTANT = {"format": "date-time"}
_DECIMAL = {"description": "decimal string"}
_MONEY = {"description": "decimal string in major units"}
_MINOR = {"description": "whole minor units, such as cents"}


class CurrentQuerySchema(WireSchema):
    """Whose usage."""

    tenant_id = TextField(metadata={"description": "required without a key"})
    customer_ref = TextField(required=True, validate=validate.Length(min=1, max=255))


class MetricUsageSchema(WireSchema):
    """One metric's number and everything one must know to trust it."""

    name = fields.String(required=True)
    display_name = fields.String(required=True, allow_none=True)
    current = fields.String(required=True, metadata=_DECIMAL)
    aggregation = fields.String(required=True)
    unit = fields.String(required=True, allow_none=True)
    watermark = fields.String(required=True, allow_none=True, metadata=_INSTANT)
    as_of = fields.String(required=True, metadata=_INSTANT)
    adjustments = fields.String(
        required=True,
        metadata={"description": "what approved deltas add to the number; decimal string"},
    )
    set_aside = fields.Integer(required=True)
    unfolded = fields.Integer(required=True)
    lateness_seconds = fields.Integer(required=True)
    effective_lateness_seconds = fields.Integer(
        required=True,
        allow_none=True,
        metadata={
            "description": "null: the period is bound to no subscription and stays open, or when"
            " it closes is not known yet"
        },
    )
    state = fields.String(
        required=True,
        validate=validate.OneOf(calendar.STATES),
        metadata={"description": "of its period; closing: it is over, and late usage still counts"},
    )
    closes_at = fields.String(required=True, allow_none=True, metadata=_INSTANT)
    closed_at = fields.String(required=True, allow_none=True, metadata=_INSTANT)
    period = fields.Nested(
        TimeRangeSchema, metadata={"description": "the metric's own, where it is another"}
    )
    unique_complete = fields.Boolean(
        metadata={"description": "false while earlier events are being searched for resources"}
    )


class CurrentAnswerSchema(WireSchema):
    """A customer's usage in the current billing period: the one that most metrics share."""

    customer_ref = fields.String(required=True)
    period = fields.Nested(TimeRangeSchema, required=True)
    as_of = fields.String(required=True, metadata=_INSTANT)
    metrics = fields.List(fields.Nested(MetricUsageSchema), required=True)
    unfolded = fields.Integer(
        required=True, metadata={"description": "events received and not yet counted"}
    )
    unfolded_is_lower_bound = fields.Boolean(required=True)
    alerts = fields.List(fields.Dict(), required=True)


class PeriodsQuerySchema(WireSchema):
    """Whose periods, of which metric."""

    tenant_id = TextField(metadata={"description": "required without a key"})
    customer_ref = TextField(required=True, validate=validate.Length(min=1, max=255))
    metric = TextField(validate=validate.Length(min=1, max=100))
    limit = fields.Integer(load_default=25, validate=validate.Range(min=1, max=100))
    cursor = TextField(validate=validate.Length(max=4000))


class PeriodSchema(WireSchema):
    """One billing period of one metric."""

    metric = fields.String(required=True)
    start = fields.String(required=True, metadata=_INSTANT)
    end = fields.String(required=True, metadata=_INSTANT)
    state = fields.String(
        required=True,
        validate=validate.OneOf(calendar.STATES),
        metadata={"description": "closing: it is over, and late usage still counts"},
    )
    closes_at = fields.String(
        required=True,
        allow_none=True,
        metadata=_INSTANT
        | {
            "description": "what is recorded from then on is set aside; null: not known yet, or"
            " never, for the period is bound to no subscription"
        },
    )
    closed_at = fields.String(required=True, allow_none=True, metadata=_INSTANT)
    effective_lateness_seconds = fields.Integer(
        required=True,
        allow_none=True,
        metadata={"description": "from the period's end to closesAt"},
    )
    invoice_id = fields.String(required=True, allow_none=True)
    invoice_final_at = fields.String(required=True, allow_none=True, metadata=_INSTANT)
    set_aside = fields.Integer(
        required=True, metadata={"description": "events that came too late, decided or not"}
    )
    pending_adjustments = fields.Integer(required=True)


class PeriodsAnswerSchema(WireSchema):
    """The newest first; those that start together by metric."""

    customer_ref = fields.String(required=True)
    periods = fields.List(fields.Nested(PeriodSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class ProjectionBodySchema(WireSchema):
    """Whose billing period; the current one where none is named."""

    tenant_id = TextField(metadata={"example": "your-tenant-id"})
    customer_ref = TextField(
        required=True, validate=validate.Length(min=1, max=255), metadata={"example": "cus_ABC123"}
    )
    period_start = InstantField(allow_none=True)
    period_end = InstantField(allow_none=True)


class TierSchema(WireSchema):
    """One tier of a price, and what it came to."""

    up_to = fields.String(required=True, allow_none=True, metadata=_DECIMAL)
    unit_price = fields.String(required=True, allow_none=True, metadata=_MONEY)
    flat_price = fields.String(required=True, allow_none=True, metadata=_MONEY)
    quantity = fields.String(required=True, metadata=_DECIMAL)
    total = fields.String(required=True, metadata=_MONEY)


def _money(description: str = "") -> Any:
    text = f"{description}; decimal string in major units" if description else None
    metadata = {"description": text} if text else _MONEY
    return fields.String(required=True, allow_none=True, metadata=metadata)


def _minor() -> Any:
    return fields.Integer(required=True, allow_none=True, metadata=_MINOR)


class LineItemSchema(WireSchema):
    """One metric; without a price its amounts are null, never zero."""

    metric = fields.String(required=True)
    aggregation = fields.String(required=True)
    unit = fields.String(required=True, allow_none=True)
    quantity = fields.String(required=True, metadata=_DECIMAL)
    projected_quantity = fields.String(required=True, metadata=_DECIMAL)
    projected_quantity_low = fields.String(required=True, metadata=_DECIMAL)
    projected_quantity_high = fields.String(required=True, metadata=_DECIMAL)
    projection_basis = fields.String(
        required=True,
        validate=validate.OneOf(BASES),
        metadata={"description": "none: nothing is left to guess"},
    )
    period_start = fields.String(
        metadata=_INSTANT | {"description": "of the metric's own period, where it is another"}
    )
    period_end = fields.String(metadata=_INSTANT)
    mapping_id = fields.String(required=True, allow_none=True)
    currency = fields.String(required=True, allow_none=True)
    model = fields.String(required=True, allow_none=True)
    unit_price = _money("per unit or package; of tiers and fees the average")
    exact = _money("the charge before any rounding")
    total = _money("as an invoice bills it: the sum of its rounded lines")
    total_minor = _minor()
    projected_total = _money()
    projected_total_minor = _minor()
    projected_total_low = _money("the least that a quantity within the band costs")
    projected_total_low_minor = _minor()
    projected_total_high = _money("the most that a quantity within the band costs")
    projected_total_high_minor = _minor()
    tiers = fields.List(
        fields.Nested(TierSchema), metadata={"description": "of a graduated or volume price"}
    )
    adjustments = fields.String(
        required=True,
        metadata={"description": "what approved deltas add to the number; decimal string"},
    )
    set_aside = fields.Integer(required=True)
    unfolded = fields.Integer(required=True)
    warning = fields.String()


class FreshnessSchema(WireSchema):
    """How far the numbers reach."""

    as_of = fields.String(required=True, metadata=_INSTANT)
    last_update = fields.String(required=True, allow_none=True, metadata=_INSTANT)
    staleness_seconds = fields.Float(required=True)


class ProjectionAnswerSchema(WireSchema):
    """What the period costs so far and is heading for. Amounts are null where nothing has a price,
    and where prices are in several currencies: those have no sum."""

    customer_ref = fields.String(required=True)
    period_start = fields.String(required=True, metadata=_INSTANT)
    period_end = fields.String(required=True, metadata=_INSTANT)
    currency = fields.String(required=True, allow_none=True)
    line_items = fields.List(fields.Nested(LineItemSchema), required=True)
    subtotal = _money("of the lines that have a price")
    subtotal_minor = _minor()
    credits = _money("none are known here; Stripe applies its own")
    credits_minor = _minor()
    tax = _money("none is worked out here; Stripe adds its own")
    tax_minor = _minor()
    total = _money()
    total_minor = _minor()
    projected_total = _money()
    projected_total_minor = _minor()
    projected_low = _money("the sum of the lines' lows")
    projected_low_minor = _minor()
    projected_high = _money("the sum of the lines' highs")
    projected_high_minor = _minor()
    freshness = fields.Nested(FreshnessSchema, required=True)
    unfolded = fields.Integer(
        required=True, metadata={"description": "events received and not yet counted"}
    )
    unfolded_is_lower_bound = fields.Boolean(required=True)
    latest_period = fields.Nested(TimeRangeSchema, allow_none=True)
    warnings = fields.List(fields.String(), required=True)


class HistoryQuerySchema(WireSchema):
    """What, of whom, from when to when, in which steps."""

    tenant_id = TextField(metadata={"description": "required without a key"})
    metric = TextField(required=True, validate=validate.Length(min=1, max=100))
    customer_ref = TextField(validate=validate.Length(min=1, max=255))
    since = TextField(metadata={"description": "instant, `now` or a duration back: -PT24H, -P7D"})
    until = TextField(metadata={"description": "as since; `now` by default"})
    interval = fields.String(validate=validate.OneOf(INTERVALS))
    period_start = TextField(metadata={"description": "older name of since"})
    period_end = TextField(metadata={"description": "older name of until"})
    step = fields.String(
        validate=validate.OneOf(INTERVALS), metadata={"description": "older name of interval"}
    )
    timezone = TextField(load_default="UTC", metadata={"description": "IANA name"})


class PointSchema(WireSchema):
    """One step of the series."""

    ts = fields.String(required=True, metadata=_INSTANT)
    value = fields.String(required=True, allow_none=True, metadata=_DECIMAL)


class TotalsSchema(WireSchema):
    """The whole span read as one."""

    value = fields.String(required=True, allow_none=True, metadata=_DECIMAL)


class HistoryAnswerSchema(WireSchema):
    """A series; `timeRange` is what its whole steps cover."""

    tenant_id = fields.String(required=True)
    metric = fields.String(required=True)
    aggregation = fields.String(required=True)
    time_range = fields.Nested(TimeRangeSchema, required=True)
    interval = fields.String(required=True)
    timezone = fields.String(required=True)
    series = fields.List(fields.Nested(PointSchema), required=True)
    totals = fields.Nested(TotalsSchema, required=True)
    as_of = fields.String(required=True, metadata=_INSTANT)
