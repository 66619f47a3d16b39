"""The form of back-tests."""

from marshmallow import fields, validate

from metering.billing import backtest, outcomes, question
from metering.billing.baseline import MAPPED
from webapp.simulations.schemas import PRICE, TENANT, ExactSchema
from webapp.wire import InstantField, TextField, WireSchema

STATES = ("queued", "running", "done", "failed", "cancelled")


class RepricedSchema(WireSchema):
    """One metric and the two prices it is tried at."""

    metric = TextField(required=True, validate=validate.Length(min=1, max=100))
    baseline = fields.Raw(
        required=True,
        metadata={
            "anyOf": [PRICE, {"type": "string", "enum": [MAPPED]}],
            "description": "a price, or `mapped`: what the mappings say of each month",
        },
    )
    candidate = fields.Raw(required=True, metadata=PRICE)


class NewBacktestSchema(ExactSchema):
    """What is asked. Without months, the last three that are over."""

    tenant_id = TextField(metadata=TENANT)
    name = TextField(
        load_default="Back-test", validate=validate.Length(min=1, max=backtest.MAX_NAME)
    )
    metrics = fields.List(
        fields.Nested(RepricedSchema),
        required=True,
        validate=validate.Length(min=1, max=question.MAX_METRICS),
    )
    months = fields.List(
        fields.String(metadata={"pattern": "^2[0-9]{3}-(0[1-9]|1[0-2])$"}),
        validate=validate.Length(min=1, max=question.MAX_MONTHS),
    )
    since = InstantField(metadata={"description": "instead of months: those that begin from here"})
    until = InstantField(metadata={"description": "to here, exclusive; now where it is not given"})


class BacktestsQuerySchema(WireSchema):
    """From where on."""

    tenant_id = TextField(metadata=TENANT)
    limit = fields.Integer(load_default=25, validate=validate.Range(min=1, max=100))
    cursor = TextField(validate=validate.Length(max=4000))


class AffectedQuerySchema(WireSchema):
    """In which order, from where on."""

    tenant_id = TextField(metadata=TENANT)
    order = fields.String(load_default="customer", validate=validate.OneOf(outcomes.ORDERS))
    limit = fields.Integer(load_default=100, validate=validate.Range(min=1, max=1000))
    cursor = TextField(validate=validate.Length(max=4000))


class BacktestProgressSchema(WireSchema):
    """How far it is. customersTotal: as counted at the beginning; null where it is not known."""

    customers_done = fields.Integer(required=True)
    customers_total = fields.Integer(required=True, allow_none=True)
    percent = fields.Integer(required=True, allow_none=True)


class AskedSchema(WireSchema):
    """One metric as it was when the question was asked."""

    metric = fields.String(required=True)
    aggregation = fields.String(required=True)
    baseline = fields.Dict(required=True)
    candidate = fields.Dict(required=True)


class SideSchema(WireSchema):
    """Customers, and what their changes come to."""

    customers = fields.Integer(required=True)
    change = fields.String(required=True)
    change_minor = fields.Integer(required=True)


class BucketSchema(SideSchema):
    """Customers whose amount changes by so many percent; null: open."""

    label = fields.String(required=True)
    from_percent = fields.Integer(required=True, allow_none=True)
    to_percent = fields.Integer(required=True, allow_none=True)


class OutcomeSchema(WireSchema):
    """One customer under both prices. periods: in how many (metric, month) something was used."""

    customer_ref = fields.String(required=True)
    name = fields.String(required=True, allow_none=True)
    periods = fields.Integer(required=True)
    before = fields.String(required=True)
    before_minor = fields.Integer(required=True)
    after = fields.String(required=True)
    after_minor = fields.Integer(required=True)
    change = fields.String(required=True)
    change_minor = fields.Integer(required=True)
    change_percent = fields.String(required=True, allow_none=True)


class BacktestResultSchema(WireSchema):
    """The answer. winners pay less, losers pay more."""

    sentence = fields.String(required=True)
    customers = fields.Integer(required=True)
    periods = fields.Integer(required=True)
    before = fields.String(required=True)
    before_minor = fields.Integer(required=True)
    after = fields.String(required=True)
    after_minor = fields.Integer(required=True)
    change = fields.String(required=True)
    change_minor = fields.Integer(required=True)
    change_percent = fields.String(required=True, allow_none=True)
    winners = fields.Nested(SideSchema, required=True)
    losers = fields.Nested(SideSchema, required=True)
    unchanged = fields.Integer(required=True)
    distribution = fields.List(fields.Nested(BucketSchema), required=True)
    most_affected = fields.List(fields.Nested(OutcomeSchema), required=True)


class ListedBacktestSchema(WireSchema):
    """A back-test without its answer."""

    id = fields.String(required=True)
    name = fields.String(required=True)
    state = fields.String(required=True, validate=validate.OneOf(STATES))
    currency = fields.String(required=True)
    months = fields.List(fields.String(), required=True)
    metrics = fields.List(fields.Nested(AskedSchema), required=True)
    progress = fields.Nested(BacktestProgressSchema, required=True)
    error = fields.String(required=True, allow_none=True)
    created_by = fields.String(required=True)
    created_at = fields.String(required=True, metadata={"format": "date-time"})
    updated_at = fields.String(required=True, metadata={"format": "date-time"})
    ended_at = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})


class BacktestSchema(ListedBacktestSchema):
    """A back-test; `result` is null until it is done."""

    result = fields.Nested(BacktestResultSchema, required=True, allow_none=True)


class BacktestsAnswerSchema(WireSchema):
    """A page of back-tests, the newest first."""

    backtests = fields.List(fields.Nested(ListedBacktestSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class AffectedAnswerSchema(WireSchema):
    """A page of customers under both prices."""

    currency = fields.String(required=True)
    customers = fields.List(fields.Nested(OutcomeSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)
