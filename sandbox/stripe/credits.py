"""Prepaid credits: grants, used on metered lines when an invoice is finalized, before its taxes.

A grant's balance is what its transactions come to; nothing else is kept of it.
"""

from collections.abc import Iterator

from sandbox.stripe.core import Call, Json, Partition, new_id

GRANT, TRANSACTION = "billing.credit_grant", "billing.credit_balance_transaction"


def use(call: Call, invoice: Json) -> None:
    """Apply the customer's credits to the invoice's metered lines."""
    for line in invoice["_lines"]:
        line["pretax_credit_amounts"] = []
        left = line["amount"] - sum(each["amount"] for each in line["discount_amounts"])
        for grant in list(_usable(call, invoice, line)):
            taken = min(left, balance(call.partition, grant))
            if taken > 0:
                left -= taken
                line["pretax_credit_amounts"].append(_applied(call, invoice, line, grant, taken))


def _applied(call: Call, invoice: Json, line: Json, grant: Json, taken: int) -> Json:
    where = {"invoice": invoice["id"], "invoice_line_item": line["id"]}
    debit = {"credits_applied": where, "type": "credits_applied"}
    made = transact(call, grant, "debit", taken, debit)
    return {
        "amount": taken,
        "credit_balance_transaction": made["id"],
        "type": "credit_balance_transaction",
    }


def give_back(call: Call, invoice: Json) -> None:
    """A voided invoice returns what it used."""
    for line in invoice["_lines"]:
        for each in line["pretax_credit_amounts"]:
            spent = call.partition.get(TRANSACTION, each["credit_balance_transaction"])
            grant = call.partition.get(GRANT, spent["credit_grant"])
            where = {"invoice": invoice["id"], "invoice_line_item": line["id"]}
            credit: Json = {"credits_application_invoice_voided": where}
            credit["type"] = "credits_application_invoice_voided"
            transact(call, grant, "credit", each["amount"], credit)


def transact(call: Call, grant: Json, type: str, amount: int, details: Json) -> Json:
    """Note that credits came (`credit`) or went (`debit`)."""
    now = call.world.now()
    monetary = grant["amount"]["monetary"] | {"value": amount}
    details = details | {"amount": {"monetary": monetary, "type": "monetary"}}
    made = {
        "id": new_id("cbtxn"),
        "object": TRANSACTION,
        "created": now,
        "credit": details if type == "credit" else None,
        "credit_grant": grant["id"],
        "debit": details if type == "debit" else None,
        "effective_at": now,
        "livemode": call.partition.livemode,
        "test_clock": grant["test_clock"],
        "type": type,
    }
    call.partition.put(TRANSACTION, made)
    call.emit("billing.credit_balance_transaction.created", made)
    return made


def balance(partition: Partition, grant: Json) -> int:
    total = 0
    for each in partition.of(TRANSACTION).values():
        if each["credit_grant"] == grant["id"]:
            part = each[each["type"]]["amount"]["monetary"]["value"]
            total += part if each["type"] == "credit" else -part
    return total


def usable(grant: Json, now: int) -> bool:
    """Whether it has begun and has neither ended nor been voided."""
    begun = grant["effective_at"] is None or grant["effective_at"] <= now
    ended = grant["expires_at"] is not None and grant["expires_at"] <= now
    return begun and not ended and grant["voided_at"] is None


def _usable(call: Call, invoice: Json, line: Json) -> Iterator[Json]:
    """The grants that a line may use: the most urgent, soonest to expire, oldest first."""
    if not line["_metered"] or line["amount"] <= 0:
        return
    grants = [
        each
        for each in call.partition.of(GRANT).values()
        if each["customer"] == invoice["customer"]
        and usable(each, call.world.now())
        and each["amount"]["monetary"]["currency"] == invoice["currency"]
        and _covers(each, line)
    ]
    far = 1 << 40
    yield from sorted(grants, key=lambda e: (e["priority"], e["expires_at"] or far, e["created"]))


def _covers(grant: Json, line: Json) -> bool:
    prices = grant["applicability_config"]["scope"].get("prices")
    if not prices:
        return True
    return line["pricing"]["price_details"]["price"] in [each["id"] for each in prices]
