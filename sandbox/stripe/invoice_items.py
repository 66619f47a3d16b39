"""Invoice items: single charges and credits that wait for the customer's next invoice."""

from decimal import Decimal

from sandbox.stripe import (
    clocks,
    customers,
    decimals,
    drafting,
    expanding,
    items,
    lines,
    metadata,
    paging,
    params,
    rating,
)
from sandbox.stripe import subscription_shapes as shapes
from sandbox.stripe.core import Call, Json, StripeError, new_id, route
from sandbox.stripe.events import within
from sandbox.stripe.params import METADATA, PAGE

KIND = "invoiceitem"
_FIELDS = {
    "amount": int,
    "description": str,
    "discountable": bool,
    "expand": params.EXPAND,
    "metadata": METADATA,
    "period": {"end!": int, "start!": int},
    "pricing": {"price": str},
    "quantity": int,
    "quantity_decimal": str,
    "tax_rates": [str],
    "unit_amount_decimal": str,
}
_CREATE = {**_FIELDS, "currency": str, "customer!": str, "invoice": str, "subscription": str}
_LIST = {**PAGE, "created": shapes.RANGE, "customer": str, "invoice": str, "pending": bool}


@route("POST", "/v1/invoiceitems")
def create(call: Call) -> Json:
    given = params.check(call.params, _CREATE)
    customer = customers.known(call, given["customer"])
    with clocks.living(call, given["customer"]) as now:
        invoice = _draft(call, given["invoice"]) if given.get("invoice") else None
        if given.get("subscription"):
            call.partition.get("subscription", given["subscription"], "subscription")
        item = _blank(call, given["customer"], now)
        item["_subscription"] = given.get("subscription") or None
        _fill(call, item, given)
        currency = given.get("currency") or item["currency"] or customer["currency"] or "usd"
        item["currency"] = currency.lower()
        if invoice is not None:
            item["invoice"] = invoice["id"]
        call.partition.put(KIND, item)
        call.emit("invoiceitem.created", item)
        if invoice is not None:
            _onto(call, invoice, item, now)
    return expanding.shown(call, item, given.get("expand"))


@route("GET", "/v1/invoiceitems")
def index(call: Call) -> Json:
    given = params.check(call.params, _LIST)
    chosen = [
        each
        for each in paging.newest(call.partition.of(KIND))
        if all(given.get(name) in (None, each[name]) for name in ("customer", "invoice"))
        and given.get("pending") in (None, each["invoice"] is None)
        and within(each["date"], given.get("created"))
    ]
    page = paging.page(chosen, given, "/v1/invoiceitems")
    return expanding.shown(call, page, given.get("expand"))


@route("GET", "/v1/invoiceitems/{invoiceitem}")
def retrieve(call: Call) -> Json:
    given = params.check(call.params, {"expand": params.EXPAND})
    found = call.partition.get(KIND, call.path["invoiceitem"], "invoiceitem")
    return expanding.shown(call, found, given.get("expand"))


@route("POST", "/v1/invoiceitems/{invoiceitem}")
def update(call: Call) -> Json:
    given = params.check(call.params, _FIELDS)
    item = call.partition.get(KIND, call.path["invoiceitem"], "invoiceitem")
    invoice = _draft(call, item["invoice"]) if item["invoice"] else None
    _fill(call, item, given)
    call.partition.put(KIND, item)
    if invoice is not None:
        _refresh(call, invoice)
    return expanding.shown(call, item, given.get("expand"))


@route("DELETE", "/v1/invoiceitems/{invoiceitem}")
def delete(call: Call) -> Json:
    params.check(call.params, {})
    item = call.partition.get(KIND, call.path["invoiceitem"], "invoiceitem")
    invoice = _draft(call, item["invoice"]) if item["invoice"] else None
    call.partition.remove(KIND, item["id"])
    if invoice is not None:
        _refresh(call, invoice)
    call.emit("invoiceitem.deleted", item)
    return {"id": item["id"], "object": KIND, "deleted": True}


def prorated(
    call: Call, subscription: Json, item: Json, amount: int, period: tuple[int, int]
) -> None:
    """Keep what a licensed item's change comes to, for the subscription's next invoice."""
    price = items.price_of(call.partition, item)
    product = call.partition.of("product").get(price["product"], {"name": ""})
    what = "Unused" if amount < 0 else "Remaining"
    made = _blank(call, subscription["customer"], call.world.now())
    made |= {
        "amount": amount,
        "currency": price["currency"],
        "description": f"{what} time on {item['quantity']} × {product['name']}",
        "discountable": False,
        "parent": {
            "subscription_details": {
                "subscription": subscription["id"],
                "subscription_item": item["id"],
            },
            "type": "subscription_details",
        },
        "period": {"start": period[0], "end": period[1]},
        "pricing": lines.priced(price, None),
        "proration": True,
        "quantity": item["quantity"],
        "quantity_decimal": str(item["quantity"]),
        "_subscription": subscription["id"],
    }
    call.partition.put(KIND, made)
    call.emit("invoiceitem.created", made)


def _blank(call: Call, customer: str, now: int) -> Json:
    return {
        "id": new_id("ii"),
        "object": KIND,
        "amount": 0,
        "currency": None,
        "customer": customer,
        "date": now,
        "description": None,
        "discountable": True,
        "discounts": [],
        "invoice": None,
        "livemode": call.partition.livemode,
        "metadata": {},
        "net_amount": 0,
        "parent": None,
        "period": {"start": now, "end": now},
        "pricing": None,
        "proration": False,
        "quantity": 1,
        "quantity_decimal": "1",
        "tax_rates": [],
        "test_clock": clocks.clock_of(call.partition, customer),
        "_subscription": None,
    }


def _fill(call: Call, item: Json, given: Json) -> None:
    for name in given.keys() & {"description", "discountable", "period"}:
        item[name] = None if given[name] == "" else given[name]
    if "tax_rates" in given:
        item["tax_rates"] = items.rates(call, given["tax_rates"])
    item["metadata"] = metadata.merged(item["metadata"], given)
    amount, unit, price = given.get("amount"), given.get("unit_amount_decimal"), None
    if (given.get("pricing") or {}).get("price"):
        price = call.partition.get("price", given["pricing"]["price"], "pricing[price]")
        unit, item["currency"] = price["unit_amount_decimal"], price["currency"]
    if amount is not None and unit:
        message = "You may only specify one of these parameters: amount, unit_amount_decimal."
        raise StripeError(400, message, param="amount")
    quantity = Decimal(1)
    if given.get("quantity_decimal"):
        quantity = decimals.read(given["quantity_decimal"], "quantity_decimal")
    elif given.get("quantity") is not None:
        quantity = Decimal(given["quantity"])
    if unit:
        each = decimals.read(unit, "unit_amount_decimal")
        item |= {"amount": rating.rounded(each * quantity), "quantity": int(quantity)}
        item["quantity_decimal"] = decimals.written(quantity)
        if price is not None:
            item["pricing"] = lines.priced(price, each)
    elif amount is not None:
        item["amount"] = amount
    item["net_amount"] = item["amount"]


def _draft(call: Call, id: str) -> Json:
    invoice = call.partition.get("invoice", id, "invoice")
    if invoice["status"] != "draft":
        message = "This invoice is no longer editable."
        raise StripeError(400, message, code="invoice_not_editable", param="invoice")
    return invoice


def _onto(call: Call, invoice: Json, item: Json, now: int) -> None:
    if item["currency"] != invoice["currency"]:
        message = f"The invoice's currency is {invoice['currency']}."
        raise StripeError(400, message, param="currency")
    invoice["_sources"] = [*invoice["_sources"], {"of": "invoiceitem", "id": item["id"]}]
    _refresh(call, invoice)


def _refresh(call: Call, invoice: Json) -> None:
    with clocks.living(call, invoice["customer"]) as now:
        drafting.refresh(call.partition, invoice, now=now)
        call.partition.put("invoice", invoice)
        call.emit("invoice.updated", drafting.shown(call.partition, invoice))
