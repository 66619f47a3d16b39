"""The parameters of subscriptions and their items."""

from sandbox.stripe import params
from sandbox.stripe.params import METADATA, PAGE, Either

RANGE = Either(int, {"gt": int, "gte": int, "lt": int, "lte": int})
_DISCOUNTS = [{"coupon": str, "discount": str}]
_CHANGE = {
    "payment_behavior": (
        *("allow_incomplete", "default_incomplete", "error_if_incomplete"),
        "pending_if_incomplete",
    ),
    "proration_behavior": ("create_prorations", "none", "always_invoice"),
    "proration_date": int,
    "expand": params.EXPAND,
}
_ITEM = {"metadata": METADATA, "price": str, "quantity": int, "tax_rates": [str]}
_COMMON = {
    **_CHANGE,
    "automatic_tax": {"enabled!": bool},
    "cancel_at": int,
    "cancel_at_period_end": bool,
    "collection_method": ("charge_automatically", "send_invoice"),
    "days_until_due": int,
    "default_payment_method": str,
    "default_tax_rates": [str],
    "description": str,
    "discounts": _DISCOUNTS,
    "metadata": METADATA,
    "off_session": bool,
    "payment_settings": {
        "payment_method_types": [str],
        "save_default_payment_method": ("off", "on_subscription"),
    },
    "trial_end": str,
    "trial_settings": {
        "end_behavior!": {
            "missing_payment_method!": ("cancel", "create_invoice", "pause"),
        }
    },
}
CREATE = {
    **{name: kind for name, kind in _COMMON.items() if name != "proration_date"},
    "backdate_start_date": int,
    "billing_cycle_anchor": int,
    "billing_cycle_anchor_config": {
        "day_of_month!": int,
        "hour": int,
        "minute": int,
        "month": int,
        "second": int,
    },
    "billing_mode": {
        "type!": ("classic", "flexible"),
        "flexible": {"proration_discounts": ("included", "itemized")},
    },
    "currency": str,
    "customer!": str,
    "items!": [_ITEM],
    "trial_period_days": int,
}
UPDATE_ITEM = {**_ITEM, "clear_usage": bool, "deleted": bool, "id": str}
UPDATE = {
    **_COMMON,
    "billing_cycle_anchor": ("now", "unchanged"),
    "cancellation_details": {"comment": str, "feedback": str},
    "items": [UPDATE_ITEM],
    "pause_collection": {
        "behavior!": ("keep_as_draft", "mark_uncollectible", "void"),
        "resumes_at": int,
    },
}
CANCEL = {
    "cancellation_details": {"comment": str, "feedback": str},
    "expand": params.EXPAND,
    "invoice_now": bool,
    "prorate": bool,
}
LIST = {
    **PAGE,
    "collection_method": ("charge_automatically", "send_invoice"),
    "created": RANGE,
    "current_period_end": RANGE,
    "current_period_start": RANGE,
    "customer": str,
    "price": str,
    "status": (
        *("active", "all", "canceled", "ended", "incomplete", "incomplete_expired"),
        *("past_due", "paused", "trialing", "unpaid"),
    ),
    "test_clock": str,
}
CREATE_ITEM = {**_CHANGE, **_ITEM, "subscription!": str}
CHANGE_ITEM = {**_CHANGE, **_ITEM, "off_session": bool}
DELETE_ITEM = {**_CHANGE, "clear_usage": bool}
LIST_ITEMS = {**PAGE, "subscription!": str}
