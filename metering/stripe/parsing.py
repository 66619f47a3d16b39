"""Reads Stripe's answers into our own types; see `answers`.

Raises: KeyError, TypeError, ValueError for what is not shaped as Stripe's objects are.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from metering.stripe.answers import (
    Customer,
    Event,
    Invoice,
    InvoiceLine,
    Item,
    Json,
    Meter,
    MeterErrors,
    MeterReport,
    Price,
    Product,
    Sample,
    Subscription,
    Summary,
    ThinEvent,
)
from metering.stripe.digits import quantised

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def meter(obj: Json) -> Meter:
    return Meter(
        id=obj["id"],
        event_name=obj["event_name"],
        display_name=obj["display_name"],
        formula=obj["default_aggregation"]["formula"],
        window=obj.get("event_time_window"),
        is_active=obj["status"] == "active",
        customer_key=obj["customer_mapping"]["event_payload_key"],
        value_key=obj["value_settings"]["event_payload_key"],
    )


def summary(obj: Json) -> Summary:
    """`aggregated_value` is a JSON number of a double: read to 15 digits."""
    return Summary(
        start_at=instant(obj["start_time"]),
        end_at=instant(obj["end_time"]),
        value=quantised(Decimal(str(obj["aggregated_value"]))),
    )


def product(obj: Json) -> Product:
    return Product(id=obj["id"], name=obj["name"], is_active=obj["active"])


def price(obj: Json) -> Price:
    recurring = obj.get("recurring") or {}
    return Price(
        id=obj["id"],
        product_id=identifier(obj.get("product")),
        meter_id=identifier(recurring.get("meter")),
        currency=obj["currency"],
        is_active=obj["active"],
        is_metered=recurring.get("usage_type") == "metered",
        interval=recurring.get("interval"),
        interval_count=recurring.get("interval_count") or 1,
        json=obj,
    )


def subscription(obj: Json) -> Subscription:
    """items: those embedded; see `Driver.subscription` for more than one page of them."""
    return Subscription(
        id=obj["id"],
        customer_id=_named(obj["customer"]),
        status=obj["status"],
        items=tuple(item(each) for each in obj["items"]["data"]),
        anchor_at=instant(obj["billing_cycle_anchor"]),
        started_at=instant(obj["start_date"]),
        created_at=instant(obj["created"]),
        cancel_at=_maybe(obj.get("cancel_at")),
        canceled_at=_maybe(obj.get("canceled_at")),
        ended_at=_maybe(obj.get("ended_at")),
        trial_end=_maybe(obj.get("trial_end")),
        is_paused=obj["status"] == "paused" or obj.get("pause_collection") is not None,
        metadata=obj.get("metadata") or {},
        json=obj,
    )


def item(obj: Json) -> Item:
    return Item(
        id=obj["id"],
        price=price(obj["price"]),
        current_start=instant(obj["current_period_start"]),
        current_end=instant(obj["current_period_end"]),
        created_at=instant(obj["created"]),
    )


def customer(obj: Json) -> Customer:
    """A deleted customer is an object of three members."""
    return Customer(
        id=obj["id"],
        name=obj.get("name"),
        email=obj.get("email"),
        is_deleted=bool(obj.get("deleted")),
        metadata=obj.get("metadata") or {},
    )


def invoice(obj: Json) -> Invoice:
    transitions = obj.get("status_transitions") or {}
    return Invoice(
        id=obj.get("id"),
        customer_id=_named(obj["customer"]),
        subscription_id=_subscription_of(obj.get("parent")),
        status=obj.get("status"),
        billing_reason=obj.get("billing_reason"),
        currency=obj["currency"],
        subtotal=obj["subtotal"],
        total=obj["total"],
        period_start=instant(obj["period_start"]),
        period_end=instant(obj["period_end"]),
        created_at=instant(obj["created"]),
        finalizes_at=_maybe(obj.get("automatically_finalizes_at")),
        finalized_at=_maybe(transitions.get("finalized_at")),
        auto_advance=bool(obj.get("auto_advance")),
        lines=tuple(invoice_line(line) for line in obj["lines"]["data"]),
        json=obj,
    )


def invoice_line(obj: Json) -> InvoiceLine:
    pricing = obj.get("pricing") or {}
    named = pricing.get("price_details") or {}
    parent = obj.get("parent") or {}
    details = parent.get("subscription_item_details") or parent.get("invoice_item_details") or {}
    return InvoiceLine(
        id=obj["id"],
        amount=obj["amount"],
        currency=obj["currency"],
        quantity=_quantity(obj),
        unit_amount=_decimal(pricing.get("unit_amount_decimal")),
        description=obj.get("description"),
        start_at=instant(obj["period"]["start"]),
        end_at=instant(obj["period"]["end"]),
        price_id=identifier(named.get("price")),
        product_id=identifier(named.get("product")),
        item_id=details.get("subscription_item"),
        subscription_id=identifier(obj.get("subscription")) or details.get("subscription"),
        is_proration=bool(details.get("proration")),
        json=obj,
    )


def event(obj: Json) -> Event:
    data = obj["data"]
    return Event(
        id=obj["id"],
        type=obj["type"],
        mode=mode_of(obj),
        account=obj.get("account"),
        created_at=instant(obj["created"]),
        object=data["object"],
        previous=data.get("previous_attributes") or {},
    )


def thin_event(obj: Json) -> ThinEvent:
    related = obj.get("related_object") or {}
    return ThinEvent(
        id=obj["id"],
        type=obj["type"],
        mode=mode_of(obj),
        context=obj.get("context"),
        created_at=datetime.fromisoformat(obj["created"]).astimezone(UTC),
        related_id=related.get("id"),
        related_type=related.get("type"),
    )


def meter_report(obj: Json) -> MeterReport:
    """A fetched `v1.billing.meter.error_report_triggered` or `….no_meter_found`."""
    told = thin_event(obj)
    data = obj.get("data") or {}
    return MeterReport(
        event=told,
        meter_id=told.related_id,
        summary=data.get("developer_message_summary"),
        start_at=_maybe_iso(data.get("validation_start")),
        end_at=_maybe_iso(data.get("validation_end")),
        errors=tuple(
            MeterErrors(
                code=each["code"],
                count=each["error_count"],
                samples=tuple(
                    Sample(one["error_message"], (one.get("request") or {}).get("identifier"))
                    for one in each.get("sample_errors") or ()
                ),
            )
            for each in (data.get("reason") or {}).get("error_types") or ()
        ),
    )


def mode_of(obj: Json) -> str:
    return "live" if obj["livemode"] else "test"


def instant(seconds: int) -> datetime:
    """Exact, and of one kind of error (OverflowError) for what is no instant."""
    return EPOCH + timedelta(seconds=seconds)


def identifier(given: Any) -> str | None:
    """An id, or an expanded object's."""
    if isinstance(given, Mapping):
        given = given.get("id")
    return given if isinstance(given, str) else None


def _named(given: Any) -> str:
    named = identifier(given)
    if named is None:
        raise KeyError("id")
    return named


def _maybe(seconds: int | None) -> datetime | None:
    return None if seconds is None else instant(seconds)


def _maybe_iso(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _quantity(obj: Json) -> Decimal | None:
    """`quantity` is a truncated integer wherever `quantity_decimal` is given."""
    exact = _decimal(obj.get("quantity_decimal"))
    if exact is None and obj.get("quantity") is not None:
        return Decimal(obj["quantity"])
    return exact


def _subscription_of(parent: Json | None) -> str | None:
    details = (parent or {}).get("subscription_details") or {}
    return identifier(details.get("subscription"))
