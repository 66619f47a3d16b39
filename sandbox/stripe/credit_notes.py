"""Credit notes: what is taken back of an invoice that is final."""

from sandbox.stripe import clocks, drafting, expanding, paging, params, totals
from sandbox.stripe.core import Call, Json, StripeError, new_id, route
from sandbox.stripe.params import METADATA, PAGE

KIND = "credit_note"
_CREATE = {
    "amount": int,
    "credit_amount": int,
    "expand": params.EXPAND,
    "invoice!": str,
    "lines": [
        {
            "amount": int,
            "description": str,
            "invoice_line_item": str,
            "type!": ("invoice_line_item", "custom_line_item"),
        }
    ],
    "memo": str,
    "metadata": METADATA,
    "out_of_band_amount": int,
    "reason": ("duplicate", "fraudulent", "order_change", "product_unsatisfactory"),
    "refund_amount": int,
}


@route("POST", "/v1/credit_notes")
def create(call: Call) -> Json:
    """Of an open invoice it lowers what is to pay; of a paid one it goes to the balance."""
    given = params.check(call.params, _CREATE)
    invoice = call.partition.get(drafting.KIND, given["invoice"], "invoice")
    if invoice["status"] not in ("open", "paid"):
        message = f"You cannot create a credit note for an invoice that is {invoice['status']}."
        raise StripeError(400, message, param="invoice")
    noted = given.get("lines") or []
    amount = given.get("amount")
    amount = sum(each.get("amount") or 0 for each in noted) if amount is None else amount
    before = sum(invoice[f"{each}_payment_credit_notes_amount"] for each in ("pre", "post"))
    left = invoice["amount_remaining"] if invoice["status"] == "open" else invoice["total"] - before
    if not 0 < amount <= left:
        message = f"The amount of a credit note must be above 0 and at most {left}."
        raise StripeError(400, message, param="amount")
    with clocks.living(call, invoice["customer"]) as now:
        note = _note(call, invoice, given, amount, now)
        call.partition.put(KIND, note)
        _credit(call, invoice, given, amount)
        call.emit("credit_note.created", note)
    return expanding.shown(call, note, given.get("expand"))


@route("GET", "/v1/credit_notes")
def index(call: Call) -> Json:
    given = params.check(call.params, {**PAGE, "customer": str, "invoice": str})
    chosen = [
        each
        for each in paging.newest(call.partition.of(KIND))
        if all(given.get(name) in (None, each[name]) for name in ("customer", "invoice"))
    ]
    return paging.page(chosen, given, "/v1/credit_notes")


@route("GET", "/v1/credit_notes/{id}")
def retrieve(call: Call) -> Json:
    given = params.check(call.params, {"expand": params.EXPAND})
    return expanding.shown(call, call.partition.get(KIND, call.path["id"]), given.get("expand"))


def _note(call: Call, invoice: Json, given: Json, amount: int, now: int) -> Json:
    id = new_id("cn")
    shown = [
        {
            "id": new_id("cnli"),
            "object": "credit_note_line_item",
            "amount": each.get("amount") or 0,
            "description": each.get("description") or None,
            "invoice_line_item": each.get("invoice_line_item") or None,
            "livemode": call.partition.livemode,
            "type": each["type"],
        }
        for each in given.get("lines") or ()
    ]
    count = sum(e["invoice"] == invoice["id"] for e in call.partition.of(KIND).values()) + 1
    page = {"object": "list", "data": shown, "has_more": False}
    return {
        "id": id,
        "object": KIND,
        "amount": amount,
        "created": now,
        "currency": invoice["currency"],
        "customer": invoice["customer"],
        "invoice": invoice["id"],
        "lines": page | {"url": f"/v1/credit_notes/{id}/lines"},
        "livemode": call.partition.livemode,
        "memo": given.get("memo") or None,
        "metadata": given.get("metadata") or {},
        "number": f"{invoice['number']}-CN-{count:02}",
        "reason": given.get("reason"),
        "status": "issued",
        "subtotal": amount,
        "total": amount,
        "type": "pre_payment" if invoice["status"] == "open" else "post_payment",
        "voided_at": None,
    }


def _credit(call: Call, invoice: Json, given: Json, amount: int) -> None:
    if invoice["status"] == "open":
        invoice["pre_payment_credit_notes_amount"] += amount
        totals.owe(invoice)
    else:
        invoice["post_payment_credit_notes_amount"] += amount
        customer = call.partition.get("customer", invoice["customer"])
        elsewhere = (given.get("refund_amount") or 0) + (given.get("out_of_band_amount") or 0)
        customer["balance"] -= max(0, amount - elsewhere)
        call.partition.put("customer", customer)
    call.partition.put(drafting.KIND, invoice)
    call.emit("invoice.updated", drafting.shown(call.partition, invoice))
