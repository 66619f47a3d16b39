"""The form of metrics and customers."""

from marshmallow import fields, validate

from metering.catalog.metrics import AGGREGATIONS, LATE_POLICIES
from webapp.wire import FlagField, TextField, WireSchema

_TENANT = {"description": "required without a key"}
A_YEAR = 366 * 86_400


class TenantQuerySchema(WireSchema):
    """Whose."""

    tenant_id = TextField(metadata=_TENANT)


class MetricChangesSchema(WireSchema):
    """What is to change of a metric; what is not named stays."""

    tenant_id = TextField(metadata=_TENANT)
    display_name = TextField(allow_none=True, validate=validate.Length(max=200))
    unit = TextField(allow_none=True, validate=validate.Length(max=50))
    aggregation = fields.String(validate=validate.OneOf(AGGREGATIONS))
    lateness_seconds = fields.Integer(strict=True, validate=validate.Range(min=0, max=A_YEAR))
    late_policy = fields.String(validate=validate.OneOf(LATE_POLICIES))
    unique = FlagField(metadata={"description": "keep exact unique counts"})
    carry_over = FlagField()


class MetricSchema(WireSchema):
    """How a metric is read."""

    metric = fields.String(required=True)
    display_name = fields.String(required=True, allow_none=True)
    unit = fields.String(required=True, allow_none=True)
    aggregation = fields.String(required=True)
    lateness_seconds = fields.Integer(required=True)
    late_policy = fields.String(required=True)
    unique = fields.Boolean(required=True)
    unique_complete = fields.Boolean(required=True)
    carry_over = fields.Boolean(required=True)


class MetricsAnswerSchema(WireSchema):
    """A tenant's metrics."""

    metrics = fields.List(fields.Nested(MetricSchema), required=True)


class CustomersQuerySchema(WireSchema):
    """Whose customers, from where on."""

    tenant_id = TextField(metadata=_TENANT)
    limit = fields.Integer(load_default=25, validate=validate.Range(min=1, max=100))
    cursor = TextField(load_default="", metadata={"description": "the last ref of the page before"})


class CustomerChangesSchema(WireSchema):
    """What is to change of a customer; what is not named stays."""

    tenant_id = TextField(metadata=_TENANT)
    stripe_customer_id = TextField(
        allow_none=True,
        validate=[validate.Length(max=255), validate.Regexp("cus_", error="must begin with cus_")],
    )
    shadow_stripe_customer_id = TextField(
        allow_none=True,
        validate=[validate.Length(max=255), validate.Regexp("cus_", error="must begin with cus_")],
        metadata={"description": "who the customer is in test mode"},
    )
    stripe_account = TextField(
        allow_none=True,
        validate=[
            validate.Length(max=255),
            validate.Regexp("acct_", error="must begin with acct_"),
        ],
    )
    name = TextField(allow_none=True, validate=validate.Length(max=200))


class CustomerSchema(WireSchema):
    """Who a customer is in Stripe. `unmapped`: usage counts, nothing can be sent."""

    customer_ref = fields.String(required=True)
    name = fields.String(required=True, allow_none=True)
    stripe_customer_id = fields.String(required=True, allow_none=True)
    shadow_stripe_customer_id = fields.String(required=True, allow_none=True)
    stripe_account = fields.String(required=True, allow_none=True)
    state = fields.String(required=True, validate=validate.OneOf(["mapped", "unmapped"]))


class CustomersAnswerSchema(WireSchema):
    """A page of customers in byte order of their refs."""

    customers = fields.List(fields.Nested(CustomerSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)
