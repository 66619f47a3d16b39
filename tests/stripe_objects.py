"""Stripe's objects as the driver hands them out, with what a test does not care about filled in."""

from datetime import UTC, datetime
from typing import Any

from metering.stripe import answers, parsing

MAY, JUNE, JULY = (datetime(2026, month, 1, tzinfo=UTC) for month in (5, 6, 7))


def meter(meter_id: str = "mtr_1", event_name: str = "calls", **changes: Any) -> answers.Meter:
    values = {
        "id": meter_id, "event_name": event_name, "display_name": event_name, "formula": "sum",
        "window": None, "is_active": True,
    }  # fmt: skip
    return answers.Meter(**(values | changes))


def price(
    price_id: str = "price_1", meter_id: str | None = "mtr_1", **changes: Any
) -> answers.Price:
    recurring = {"interval": "month", "interval_count": 1, "usage_type": "metered"}
    obj = {
        "id": price_id, "object": "price", "active": True, "currency": "usd",
        "billing_scheme": "per_unit", "unit_amount": 5, "unit_amount_decimal": "5",
        "product": "prod_1", "recurring": recurring | {"meter": meter_id},
    }  # fmt: skip
    return parsing.price(obj | changes)


def item(
    item_id: str = "si_1",
    of: answers.Price | None = None,
    *,
    start: datetime = MAY,
    end: datetime = JUNE,
    created: datetime = MAY,
) -> answers.Item:
    return answers.Item(item_id, of or price(), start, end, created)


def subscription(
    *items: answers.Item,
    id: str = "sub_1",
    customer: str = "cus_1",
    status: str = "active",
    **changes: Any,
) -> answers.Subscription:
    values: dict[str, Any] = {
        "id": id, "customer_id": customer, "status": status, "items": items or (item(),),
        "anchor_at": MAY, "started_at": MAY, "created_at": MAY, "cancel_at": None,
        "canceled_at": None, "ended_at": None, "trial_end": None, "is_paused": False,
        "metadata": {}, "json": {},
    }  # fmt: skip
    return answers.Subscription(**(values | changes))


def customer(id: str = "cus_1", ref: str | None = None, **changes: Any) -> answers.Customer:
    metadata = {} if ref is None else {"stripemeter_customer_ref": ref}
    values = {"id": id, "name": None, "email": None, "is_deleted": False, "metadata": metadata}
    return answers.Customer(**(values | changes))
