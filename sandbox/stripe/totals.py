"""What an invoice's lines come to: discounts, then credits, then taxes, each in minor units."""

from decimal import Decimal

from sandbox.stripe import rating
from sandbox.stripe.core import Json, Partition


def apply(partition: Partition, invoice: Json) -> None:
    """Set the sums of an invoice, and its lines' shares of them, from `_lines`."""
    lines = invoice["_lines"]
    invoice["subtotal"] = sum(each["amount"] for each in lines)
    discounts = _discount(partition, invoice)
    credits = _credits(invoice)
    added, included = _tax(invoice)
    total = invoice["subtotal"] - discounts - credits + added
    invoice |= {
        "subtotal_excluding_tax": invoice["subtotal"] - included,
        "total": total,
        "total_excluding_tax": total - added - included,
    }
    owe(invoice)


def owe(invoice: Json) -> None:
    """What is left to pay, once the customer's balance is taken into account."""
    due = max(0, invoice["total"] + invoice["starting_balance"])
    left = due - invoice["amount_paid"] - invoice["pre_payment_credit_notes_amount"]
    invoice |= {"amount_due": due, "amount_remaining": max(0, left)}


def _discount(partition: Partition, invoice: Json) -> int:
    lines = invoice["_lines"]
    for line in lines:
        line["discount_amounts"] = []
    totals = []
    for id in invoice["discounts"]:
        coupon = partition.of("coupon")[partition.of("discount")[id]["source"]["coupon"]]
        eligible = [each for each in lines if each["discountable"] and _left(each) > 0]
        base = sum(map(_left, eligible))
        if coupon["percent_off"] is not None:
            amount = rating.rounded(base * Decimal(str(coupon["percent_off"])) / 100)
        else:
            amount = min(base, coupon["amount_off"])
        for line, share in zip(eligible, shares(amount, list(map(_left, eligible))), strict=True):
            line["discount_amounts"].append({"amount": share, "discount": id})
        totals.append({"amount": amount, "discount": id})
    invoice["total_discount_amounts"] = totals
    return sum(each["amount"] for each in totals)


def _credits(invoice: Json) -> int:
    """What the credits that were applied to the lines come to."""
    totals: dict[str, Json] = {}
    for line in invoice["_lines"]:
        for each in line["pretax_credit_amounts"]:
            known = totals.setdefault(each["credit_balance_transaction"], each | {"amount": 0})
            known["amount"] += each["amount"]
    invoice["total_pretax_credit_amounts"] = list(totals.values())
    return sum(each["amount"] for each in totals.values())


def _tax(invoice: Json) -> tuple[int, int]:
    """The taxes added to the amounts, and those within them."""
    totals: dict[str, Json] = {}
    for line in invoice["_lines"]:
        rates = line["_tax_rates"] or invoice["default_tax_rates"]
        line["taxes"] = [_taxed(_left(line), each) for each in rates]
        for each in line["taxes"]:
            known = totals.setdefault(
                each["tax_rate_details"]["tax_rate"], each | {"amount": 0, "taxable_amount": 0}
            )
            known["amount"] += each["amount"]
            known["taxable_amount"] += each["taxable_amount"]
    invoice["total_taxes"] = list(totals.values())

    def sum_of(behavior: str) -> int:
        return sum(e["amount"] for e in totals.values() if e["tax_behavior"] == behavior)

    return sum_of("exclusive"), sum_of("inclusive")


def _taxed(amount: int, rate: Json) -> Json:
    percentage = Decimal(str(rate["percentage"]))
    over = 100 + percentage if rate["inclusive"] else Decimal(100)
    tax = rating.rounded(amount * percentage / over)
    return {
        "amount": tax,
        "tax_behavior": "inclusive" if rate["inclusive"] else "exclusive",
        "tax_rate_details": {"tax_rate": rate["id"]},
        "taxability_reason": "standard_rated",
        "taxable_amount": amount - tax if rate["inclusive"] else amount,
        "type": "tax_rate_details",
    }


def _left(line: Json) -> int:
    """A line's amount less its discounts and credits."""
    taken = [*line["discount_amounts"], *line["pretax_credit_amounts"]]
    return int(line["amount"] - sum(each["amount"] for each in taken))


def shares(amount: int, weights: list[int]) -> list[int]:
    """The amount in parts that are as the weights, whole, and together the amount."""
    whole, parts, given, seen = sum(weights), [], 0, 0
    for weight in weights:
        seen += weight
        upto = amount * seen // whole if whole else 0
        parts.append(upto - given)
        given = upto
    return parts
