"""The form of mappings."""

from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from metering.catalog.metrics import AGGREGATIONS
from metering.stripe.readiness import STATES
from webapp.mappings.fields import PriceField, QuantityField, StripeIdField
from webapp.wire import FlagField, InstantField, TextField, WireSchema

_TENANT = {"description": "required without a key"}
_INSTANT = {"format": "date-time"}
_TEST = "as its namesake without `shadow`, in Stripe's test mode"


class MappingsQuerySchema(WireSchema):
    """Whose mappings, of what, from where on."""

    tenant_id = TextField(metadata=_TENANT)
    metric = TextField(validate=validate.Length(min=1, max=100))
    customer_ref = TextField(validate=validate.Length(min=1, max=255))
    limit = fields.Integer(load_default=25, validate=validate.Range(min=1, max=100))
    cursor = TextField(metadata={"description": "`nextCursor` of the page before"})


class MappingChangesSchema(WireSchema):
    """What is to change of a mapping; what is not named stays."""

    tenant_id = TextField(metadata=_TENANT)
    metric = TextField(
        validate=validate.Length(min=1, max=100), metadata={"description": "cannot change"}
    )
    customer_ref = TextField(
        allow_none=True,
        validate=validate.Length(min=1, max=255),
        metadata={"description": "restricts the mapping to one customer; cannot change"},
    )
    aggregation = fields.String(
        allow_none=True,
        validate=validate.OneOf(AGGREGATIONS),
        metadata={"description": "the metric's own where it is null"},
    )
    stripe_account = StripeIdField("acct_")
    price_id = StripeIdField("price_", "plan_")
    meter_id = StripeIdField("mtr_")
    meter_event_name = TextField(allow_none=True, validate=validate.Length(min=1, max=100))
    subscription_item_id = StripeIdField("si_")
    currency = TextField(
        allow_none=True,
        validate=validate.Length(equal=3),
        metadata={"description": "one that the price has; the price's own by default"},
    )
    price_config = PriceField(
        "config",
        allow_none=True,
        metadata={"description": "the price in major units; see docs/pricing.md"},
    )
    stripe_price = PriceField(
        "stripe",
        allow_none=True,
        metadata={"description": "the price as Stripe's Price object, instead of priceConfig"},
    )
    active = FlagField(metadata={"description": "live; by default, unless only `shadow` is true"})
    shadow = FlagField(metadata={"description": "test; prices nobody's projection"})
    shadow_stripe_account = StripeIdField("acct_")
    shadow_price_id = StripeIdField("price_", "plan_")
    shadow_subscription_item_id = StripeIdField("si_")
    effective_from = InstantField(
        metadata={
            "description": "the next full hour by default; a full hour where usage goes to Stripe"
        }
    )
    effective_until = InstantField(allow_none=True)

    @validates_schema
    def check_one_price(self, data: dict[str, Any], **kwargs: Any) -> None:
        """Two prices in one request would leave open which one is meant."""
        if data.get("price_config") is not None and data.get("stripe_price") is not None:
            raise ValidationError("and stripePrice exclude each other", "priceConfig")


class NewMappingSchema(MappingChangesSchema):
    """A mapping to be made."""

    metric = TextField(
        required=True, validate=validate.Length(min=1, max=100), metadata={"example": "api_calls"}
    )
    opening_total = QuantityField(
        metadata={
            "description": (
                "acknowledges what Stripe has of the time since effectiveFrom from elsewhere:"
                " exactly the figure that a 409 names"
            )
        }
    )


class DestinationSchema(WireSchema):
    """Whether usage goes to Stripe from here, and if not, why."""

    state = fields.String(required=True, validate=validate.OneOf(STATES))
    reason = fields.String(required=True)


class DestinationsSchema(WireSchema):
    """Live and test, independent of each other."""

    live = fields.Nested(DestinationSchema, required=True)
    shadow = fields.Nested(DestinationSchema, required=True)


class MappingSchema(WireSchema):
    """A metric's price, and where in Stripe it belongs, for a time."""

    id = fields.String(required=True)
    tenant_id = fields.String(required=True)
    metric = fields.String(required=True)
    aggregation = fields.String(required=True)
    customer_ref = fields.String(required=True, allow_none=True)
    stripe_account = fields.String(required=True, allow_none=True)
    price_id = fields.String(required=True, allow_none=True)
    meter_id = fields.String(required=True, allow_none=True)
    meter_event_name = fields.String(required=True, allow_none=True)
    subscription_item_id = fields.String(required=True, allow_none=True)
    currency = fields.String(required=True, allow_none=True)
    price_config = fields.Dict(
        required=True,
        allow_none=True,
        metadata={"description": "canonical: major units, decimal strings"},
    )
    active = fields.Boolean(required=True)
    shadow = fields.Boolean(required=True)
    shadow_stripe_account = fields.String(
        required=True, allow_none=True, metadata={"description": _TEST}
    )
    shadow_price_id = fields.String(required=True, allow_none=True, metadata={"description": _TEST})
    shadow_subscription_item_id = fields.String(
        required=True, allow_none=True, metadata={"description": _TEST}
    )
    effective_from = fields.String(required=True, metadata=_INSTANT)
    effective_until = fields.String(required=True, allow_none=True, metadata=_INSTANT)
    created_at = fields.String(required=True, metadata=_INSTANT)
    updated_at = fields.String(required=True, metadata=_INSTANT)
    opening_total = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "what Stripe had of the mapping's past from elsewhere"},
    )
    destinations = fields.Nested(DestinationsSchema, required=True)
    warnings = fields.List(fields.String(), required=True)


class MappingsAnswerSchema(WireSchema):
    """A page of mappings by metric and time, the ended ones among them."""

    mappings = fields.List(fields.Nested(MappingSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)
