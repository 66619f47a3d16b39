"""Invoices in the making: a draft of what is owed, which waits an hour before it is final.

Stored as shown, but for:
    _lines:    all lines; `lines` shows the first ten
    _sources:  what the lines are made of, asked again when the invoice is finalized
    _subscription, _trial, _on_finalized (what becomes of it then: None, "void" or
    "uncollectible")
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sandbox.stripe import billables, clocks, expanding, lines, totals
from sandbox.stripe.core import Call, Json, Partition, new_id, on_delivery

KIND = "invoice"
GRACE_SECONDS = 3600
_EMBEDDED = 10
_NONE = (
    *("account_country", "account_name", "account_tax_ids", "application", "custom_fields"),
    *("customer_address", "customer_phone", "customer_shipping", "default_payment_method"),
    *("default_source", "description", "due_date", "effective_at", "ending_balance", "footer"),
    *("from_invoice", "hosted_invoice_url", "invoice_pdf", "last_finalization_error"),
    *("latest_revision", "next_payment_attempt", "number", "on_behalf_of", "receipt_number"),
    *("rendering", "shipping_cost", "shipping_details", "statement_descriptor"),
    "webhooks_delivered_at",
)


@dataclass(frozen=True)
class Occasion:
    """Why there is an invoice, and of what. period: start and end, of the invoice itself."""

    reason: str
    customer: str
    subscription: Json | None
    sources: Sequence[Json]
    period: tuple[int, int]
    currency: str
    trial: bool = False
    pending_items: bool = True


@expanding.shows(KIND)
def shown(partition: Partition, invoice: Json) -> Json:
    """The invoice with the first of its lines."""
    known = invoice["_lines"]
    page = {
        "object": "list",
        "data": known[:_EMBEDDED],
        "has_more": len(known) > _EMBEDDED,
        "url": f"/v1/invoices/{invoice['id']}/lines",
    }
    return invoice | {"lines": page}


def draft(call: Call, occasion: Occasion) -> Json:
    """Keep a draft, tell of it, and let it be finalized in an hour."""
    invoice = built(call.partition, occasion, new_id("in"), now=call.world.now())
    paused = (occasion.subscription or {}).get("pause_collection")
    if occasion.reason == "manual" or (paused and paused["behavior"] == "keep_as_draft"):
        invoice["auto_advance"] = False
        invoice["automatically_finalizes_at"] = None
    elif paused:
        invoice["_on_finalized"] = paused["behavior"].removeprefix("mark_")
    for source in invoice["_sources"]:
        if source["of"] == "invoiceitem":
            item = call.partition.get("invoiceitem", source["id"])
            call.partition.put("invoiceitem", item | {"invoice": invoice["id"]})
    _use_discounts(call.partition, invoice, occasion.subscription)
    call.partition.put(KIND, invoice)
    if occasion.subscription is not None:
        occasion.subscription["latest_invoice"] = invoice["id"]
    call.emit("invoice.created", shown(call.partition, invoice))
    return invoice


def built(partition: Partition, occasion: Occasion, id: str, *, now: int) -> Json:
    """An invoice as it would be now; nothing is kept."""
    customer = partition.of("customer")[occasion.customer]
    subscription = occasion.subscription
    sources = list(occasion.sources)
    if occasion.pending_items:
        name = None if subscription is None else subscription["id"]
        sources += billables.pending(partition, occasion.customer, name)
    invoice: Json = dict.fromkeys(_NONE) | {
        "id": id,
        "object": KIND,
        "amount_due": 0,
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_paid_off_stripe": 0,
        "amount_remaining": 0,
        "amount_shipping": 0,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": True,
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": False,
            "liability": None,
            "provider": None,
            "status": None,
        },
        "automatically_finalizes_at": now + GRACE_SECONDS,
        "billing_reason": occasion.reason,
        "collection_method": (subscription or {}).get("collection_method", "charge_automatically"),
        "created": now,
        "currency": occasion.currency,
        "customer": occasion.customer,
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_tax_exempt": customer["tax_exempt"],
        "customer_tax_ids": [],
        "default_tax_rates": list((subscription or {}).get("default_tax_rates", ())),
        "discounts": list((subscription or {}).get("discounts", ())),
        "issuer": {"type": "self"},
        "livemode": partition.livemode,
        "metadata": {},
        "parent": _parent(subscription),
        "payment_settings": {
            "default_mandate": None,
            "payment_method_options": None,
            "payment_method_types": None,
        },
        "period_end": occasion.period[1],
        "period_start": occasion.period[0],
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "starting_balance": customer["balance"],
        "status": "draft",
        "status_transitions": {
            "finalized_at": None,
            "marked_uncollectible_at": None,
            "paid_at": None,
            "voided_at": None,
        },
        "test_clock": clocks.clock_of(partition, occasion.customer),
        "_lines": [],
        "_on_finalized": None,
        "_sources": sources,
        "_subscription": None if subscription is None else subscription["id"],
        "_trial": occasion.trial,
    }
    refresh(partition, invoice, now=now)
    return invoice


def refresh(partition: Partition, invoice: Json, *, now: int) -> None:
    """Ask for the usage again, and sum up."""
    if invoice["_sources"]:
        invoice["_lines"] = lines.made(partition, invoice, now=now)
    totals.apply(partition, invoice)


def _parent(subscription: Json | None) -> Json | None:
    if subscription is None:
        return None
    details = {"metadata": subscription["metadata"], "subscription": subscription["id"]}
    return {
        "quote_details": None,
        "subscription_details": details,
        "type": "subscription_details",
    }


def _use_discounts(partition: Partition, invoice: Json, subscription: Json | None) -> None:
    """A coupon of `once` is good for one invoice, one of `repeating` until its discount's end."""
    for id in invoice["discounts"] if subscription is not None else ():
        discount = partition.of("discount")[id]
        once = partition.of("coupon")[discount["source"]["coupon"]]["duration"] == "once"
        over = discount["end"] is not None and discount["end"] <= invoice["created"]
        if subscription is not None and (once or over):
            subscription["discounts"] = [e for e in subscription["discounts"] if e != id]


@on_delivery
def _delivered(world: object, partition: Partition, event: Json) -> None:
    """Note that an endpoint has heard of the draft. The hour runs from its making all the same:
    the clock is often advanced far past what an endpoint could answer in time."""
    if event.get("type") != "invoice.created":
        return
    invoice = partition.of(KIND).get(event["data"]["object"]["id"])
    if invoice is not None and invoice["webhooks_delivered_at"] is None:
        invoice["webhooks_delivered_at"] = invoice["created"]
        partition.put(KIND, invoice)
