"""Invoices over HTTP."""

from sandbox.stripe import (
    clocks,
    customers,
    drafting,
    expanding,
    metadata,
    paging,
    params,
    previews,
    settling,
)
from sandbox.stripe import subscription_shapes as shapes
from sandbox.stripe.core import Call, Json, StripeError, route
from sandbox.stripe.drafting import Occasion
from sandbox.stripe.events import within
from sandbox.stripe.params import METADATA, PAGE

KIND = drafting.KIND
_EXPAND = {"expand": params.EXPAND}
_STATUSES = ("draft", "open", "paid", "uncollectible", "void")
_LIST = {
    **PAGE,
    "collection_method": ("charge_automatically", "send_invoice"),
    "created": shapes.RANGE,
    "customer": str,
    "due_date": shapes.RANGE,
    "status": _STATUSES,
    "subscription": str,
}
_FIELDS = {
    **_EXPAND,
    "auto_advance": bool,
    "automatically_finalizes_at": int,
    "collection_method": ("charge_automatically", "send_invoice"),
    "days_until_due": int,
    "default_tax_rates": [str],
    "description": str,
    "footer": str,
    "metadata": METADATA,
}
_CREATE = {
    **_FIELDS,
    "currency": str,
    "customer!": str,
    "pending_invoice_items_behavior": ("exclude", "include"),
}
_PAY = {
    **_EXPAND,
    "forgive": bool,
    "off_session": bool,
    "paid_out_of_band": bool,
    "payment_method": str,
}


@route("POST", "/v1/invoices")
def create(call: Call) -> Json:
    given = params.check(call.params, _CREATE)
    customer = customers.known(call, given["customer"])
    with clocks.living(call, given["customer"]) as now:
        pending = given.get("pending_invoice_items_behavior") == "include"
        currency = (given.get("currency") or customer["currency"] or "usd").lower()
        period = (now, now)
        occasion = Occasion(
            "manual", customer["id"], None, [], period, currency, pending_items=pending
        )
        invoice = drafting.draft(call, occasion)
        _fill(call, invoice, given)
        call.partition.put(KIND, invoice)
    return _told(call, invoice, given)


@route("GET", "/v1/invoices")
def index(call: Call) -> Json:
    given = params.check(call.params, _LIST)
    names = {"customer": "customer", "status": "status", "subscription": "_subscription"}
    names["collection_method"] = "collection_method"
    chosen = [
        drafting.shown(call.partition, each)
        for each in paging.newest(call.partition.of(KIND))
        if all(given.get(name) in (None, each[own]) for name, own in names.items())
        and within(each["created"], given.get("created"))
        and (given.get("due_date") is None or within(each["due_date"] or 0, given["due_date"]))
    ]
    page = paging.page(chosen, given, "/v1/invoices")
    return expanding.shown(call, page, given.get("expand"))


@route("GET", "/v1/invoices/{invoice}")
def retrieve(call: Call) -> Json:
    given = params.check(call.params, _EXPAND)
    return _told(call, _found(call), given)


@route("GET", "/v1/invoices/{invoice}/lines")
def lines(call: Call) -> Json:
    given = params.check(call.params, PAGE)
    id = call.path["invoice"]
    invoice = previews.known(call, id) or _found(call)
    page = paging.page(invoice["_lines"], given, f"/v1/invoices/{id}/lines")
    return expanding.shown(call, page, given.get("expand"))


@route("POST", "/v1/invoices/{invoice}")
def update(call: Call) -> Json:
    given = params.check(call.params, _FIELDS)
    invoice = _found(call)
    only_notes = given.keys() <= {"metadata", "expand", "auto_advance"}
    if invoice["status"] != "draft" and not only_notes:
        raise StripeError(
            400, "Finalized invoices can't be updated in this way", code="invoice_not_editable"
        )
    with clocks.living(call, invoice["customer"]) as now:
        _fill(call, invoice, given)
        if invoice["status"] == "draft":
            drafting.refresh(call.partition, invoice, now=now)
        call.partition.put(KIND, invoice)
        call.emit("invoice.updated", drafting.shown(call.partition, invoice))
    return _told(call, invoice, given)


@route("DELETE", "/v1/invoices/{invoice}")
def delete(call: Call) -> Json:
    params.check(call.params, {})
    invoice = _found(call)
    if invoice["status"] != "draft" or invoice["_subscription"] is not None:
        message = "You can only delete draft invoices that are not of a subscription."
        raise StripeError(400, message, code="invoice_not_editable")
    for source in invoice["_sources"]:
        item = call.partition.get("invoiceitem", source["id"])
        call.partition.put("invoiceitem", item | {"invoice": None})
    call.partition.remove(KIND, invoice["id"])
    call.emit("invoice.deleted", drafting.shown(call.partition, invoice))
    return {"id": invoice["id"], "object": KIND, "deleted": True}


@route("POST", "/v1/invoices/{invoice}/finalize")
def finalize(call: Call) -> Json:
    given = params.check(call.params, {**_EXPAND, "auto_advance": bool})
    invoice = _found(call)
    if given.get("auto_advance") is not None:
        invoice["auto_advance"] = given["auto_advance"]
    with clocks.living(call, invoice["customer"]):
        settling.finalize(call, invoice)
    return _told(call, invoice, given)


@route("POST", "/v1/invoices/{invoice}/pay")
def pay(call: Call) -> Json:
    given = params.check(call.params, _PAY)
    invoice = _found(call)
    with clocks.living(call, invoice["customer"]):
        if invoice["status"] == "draft":
            settling.finalize(call, invoice)
        if invoice["status"] != "paid":
            settling.pay(call, invoice, elsewhere=bool(given.get("paid_out_of_band")))
    return _told(call, invoice, given)


@route("POST", "/v1/invoices/{invoice}/void")
def void(call: Call) -> Json:
    given = params.check(call.params, _EXPAND)
    invoice = _found(call)
    with clocks.living(call, invoice["customer"]):
        settling.void(call, invoice)
    return _told(call, invoice, given)


@route("POST", "/v1/invoices/{invoice}/mark_uncollectible")
def mark_uncollectible(call: Call) -> Json:
    given = params.check(call.params, _EXPAND)
    invoice = _found(call)
    with clocks.living(call, invoice["customer"]):
        settling.give_up(call, invoice)
    return _told(call, invoice, given)


def _found(call: Call) -> Json:
    return call.partition.get(KIND, call.path["invoice"], "invoice")


def _told(call: Call, invoice: Json, given: Json) -> Json:
    return expanding.shown(call, drafting.shown(call.partition, invoice), given.get("expand"))


def _fill(call: Call, invoice: Json, given: Json) -> None:
    for name in given.keys() & {"collection_method", "description", "footer"}:
        invoice[name] = None if given[name] == "" else given[name]
    if given.get("default_tax_rates") is not None:
        rates = [call.partition.get("tax_rate", each) for each in given["default_tax_rates"]]
        invoice["default_tax_rates"] = rates
    if given.get("days_until_due") is not None:
        invoice["due_date"] = invoice["created"] + given["days_until_due"] * 86400
    if given.get("auto_advance") is not None and given["auto_advance"] != invoice["auto_advance"]:
        invoice["auto_advance"] = given["auto_advance"]
        at = max(call.world.now(), invoice["created"]) + drafting.GRACE_SECONDS
        held = invoice["status"] != "draft" or not given["auto_advance"]
        invoice["automatically_finalizes_at"] = None if held else at
    if given.get("automatically_finalizes_at") is not None:
        invoice["automatically_finalizes_at"] = given["automatically_finalizes_at"]
    invoice["metadata"] = metadata.merged(invoice["metadata"], given)
