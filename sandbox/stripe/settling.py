"""The life of an invoice after its draft: final, and then paid, void or given up."""

from sandbox.stripe import credits, drafting, totals
from sandbox.stripe.core import Call, Json, StripeError

KIND = drafting.KIND


def finalize(call: Call, invoice: Json) -> Json:
    """Make a draft final: quantities are asked a last time, credits and balance are used.

    Raises: StripeError (400) for what is no draft.
    """
    if invoice["status"] != "draft":
        message = "This invoice is already finalized, you can't re-finalize a non-draft invoice."
        raise StripeError(400, message, code="invoice_not_editable")
    now = call.world.now()
    drafting.refresh(call.partition, invoice, now=now)
    credits.use(call, invoice)
    totals.apply(call.partition, invoice)
    _use_balance(call, invoice)
    invoice |= {"status": "open", "effective_at": now, "automatically_finalizes_at": None}
    invoice["hosted_invoice_url"] = f"https://invoice.stripe.com/i/{invoice['id']}"
    invoice["invoice_pdf"] = f"https://pay.stripe.com/invoice/{invoice['id']}/pdf"
    _mark(invoice, "finalized_at", now)
    invoice["_sources"] = []
    _changed(call, invoice, "finalized")
    if invoice["_on_finalized"] == "void":
        return void(call, invoice)
    if invoice["_on_finalized"] == "uncollectible":
        return give_up(call, invoice)
    if invoice["collection_method"] == "charge_automatically" or invoice["amount_due"] == 0:
        return pay(call, invoice)
    return invoice


def pay(call: Call, invoice: Json, *, elsewhere: bool = False) -> Json:
    """Every card works here. elsewhere: it was paid out of band."""
    _refuse_unless(invoice, ("open", "uncollectible"), "paid")
    paid = invoice["amount_remaining"]
    invoice |= {"status": "paid", "attempted": True, "auto_advance": False, "amount_remaining": 0}
    invoice["amount_paid"] += paid
    if paid and not elsewhere:
        invoice["attempt_count"] += 1
    _mark(invoice, "paid_at", call.world.now())
    _changed(call, invoice, "paid")
    if not elsewhere:
        _changed(call, invoice, "payment_succeeded")
    return invoice


def void(call: Call, invoice: Json) -> Json:
    _refuse_unless(invoice, ("open", "uncollectible"), "voided")
    invoice |= {"status": "void", "auto_advance": False}
    _mark(invoice, "voided_at", call.world.now())
    credits.give_back(call, invoice)
    _changed(call, invoice, "voided")
    return invoice


def give_up(call: Call, invoice: Json) -> Json:
    _refuse_unless(invoice, ("open",), "marked as uncollectible")
    invoice |= {"status": "uncollectible", "auto_advance": False}
    _mark(invoice, "marked_uncollectible_at", call.world.now())
    _changed(call, invoice, "marked_uncollectible")
    return invoice


def _use_balance(call: Call, invoice: Json) -> None:
    customer = call.partition.of("customer")[invoice["customer"]]
    if customer.get("deleted"):
        invoice["ending_balance"], invoice["number"] = 0, f"{invoice['id'][-8:].upper()}-0001"
        return
    number = customer["next_invoice_sequence"]
    invoice["number"] = f"{customer['invoice_prefix']}-{number:04}"
    invoice["starting_balance"] = customer["balance"]
    invoice["ending_balance"] = min(0, invoice["total"] + customer["balance"])
    totals.owe(invoice)
    customer |= {"balance": invoice["ending_balance"], "next_invoice_sequence": number + 1}
    call.partition.put("customer", customer)


def _refuse_unless(invoice: Json, statuses: tuple[str, ...], done: str) -> None:
    if invoice["status"] not in statuses:
        message = f"An invoice with status {invoice['status']} cannot be {done}."
        raise StripeError(400, message, code="invoice_not_editable")


def _mark(invoice: Json, name: str, now: int) -> None:
    invoice["status_transitions"] = invoice["status_transitions"] | {name: now}


def _changed(call: Call, invoice: Json, how: str) -> None:
    call.partition.put(KIND, invoice)
    call.emit(f"invoice.{how}", drafting.shown(call.partition, invoice))
