"""The lines of an invoice, made of its sources; made anew they keep their ids."""

from decimal import Decimal
from typing import Any

from sandbox.stripe import decimals, items, meter_events, rating
from sandbox.stripe.core import Json, Partition, new_id
from sandbox.stripe.rating import Charge

_ZERO_DECIMAL = {
    *("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga"),
    *("pyg", "rwf", "ugx", "vnd", "vuv", "xaf", "xof", "xpf"),
}


def made(partition: Partition, invoice: Json, *, now: int) -> list[Json]:
    """The lines as of now: what was used in each span is asked again."""
    before = {each["_key"]: each["id"] for each in invoice["_lines"]}
    lines = []
    for source in invoice["_sources"]:
        for line in _MAKERS[source["of"]](partition, invoice, source, now):
            line["id"] = before.get(line["_key"]) or new_id("il")
            line["invoice"] = invoice["id"]
            lines.append(line)
    return lines


def _metered(partition: Partition, invoice: Json, source: Json, now: int) -> list[Json]:
    price = partition.of("price")[source["price"]]
    meter = price["recurring"]["meter"]
    customer = invoice["customer"]
    span = (source["start"], source["end"])
    used = meter_events.usage(partition, meter, customer, *span, now=now)
    return _rated(partition, invoice, source, rating.rate(price, used))


def _licensed(partition: Partition, invoice: Json, source: Json, now: int) -> list[Json]:
    price = partition.of("price")[source["price"]]
    charges = rating.rate(price, Decimal(source["quantity"]))
    share = Decimal(source["end"] - source["start"])
    trial = invoice["_trial"]
    rated = []
    for charge in charges:
        amount = charge.amount
        if trial:
            amount = 0
        elif share != source["full"]:
            amount = rating.rounded(charge.amount * share / source["full"])
        rated.append(Charge(charge.tier, charge.part, charge.quantity, charge.unit_amount, amount))
    return _rated(partition, invoice, source, rated)


def _rated(partition: Partition, invoice: Json, source: Json, charges: list[Charge]) -> list[Json]:
    price = partition.of("price")[source["price"]]
    product = partition.of("product").get(price["product"], {"name": "", "unit_label": None})
    item = partition.of(items.KIND).get(source["item"], {"tax_rates": [], "metadata": {}})
    lines = []
    for charge in charges:
        line = blank(invoice, charge.amount, source["start"], source["end"])
        line |= {
            "_key": f"{source['item']}:{price['id']}:{source['start']}:{charge.tier}{charge.part}",
            "_metered": source["of"] == "metered",
            "_tax_rates": item["tax_rates"],
            "description": described(price, product, charge),
            "metadata": item["metadata"],
            "parent": {
                "invoice_item_details": None,
                "subscription_item_details": {
                    "invoice_item": None,
                    "proration": False,
                    "proration_details": {"credited_items": None},
                    "subscription": invoice["_subscription"],
                    "subscription_item": source["item"],
                },
                "type": "subscription_item_details",
            },
            "pricing": priced(price, charge.unit_amount),
            "quantity": int(charge.quantity),
            "quantity_decimal": decimals.written(charge.quantity),
            "subscription": invoice["_subscription"],
        }
        lines.append(line)
    return lines


def _invoice_item(partition: Partition, invoice: Json, source: Json, now: int) -> list[Json]:
    item = partition.of("invoiceitem").get(source["id"])
    if item is None:
        return []
    line = blank(invoice, item["amount"], item["period"]["start"], item["period"]["end"])
    details = {
        "invoice_item": item["id"],
        "proration": item["proration"],
        "proration_details": {"credited_items": None},
        "subscription": item["_subscription"],
    }
    line |= {
        "_key": item["id"],
        "_tax_rates": item["tax_rates"],
        "description": item["description"],
        "discountable": item["discountable"],
        "metadata": item["metadata"],
        "parent": {
            "invoice_item_details": details,
            "subscription_item_details": None,
            "type": "invoice_item_details",
        },
        "pricing": item["pricing"],
        "quantity": item["quantity"],
        "quantity_decimal": item["quantity_decimal"],
        "subscription": item["_subscription"],
    }
    return [line]


_MAKERS: dict[str, Any] = {
    "metered": _metered,
    "licensed": _licensed,
    "invoiceitem": _invoice_item,
}


def blank(invoice: Json, amount: int, start: int, end: int) -> Json:
    return {
        "id": "",
        "object": "line_item",
        "amount": amount,
        "currency": invoice["currency"],
        "description": None,
        "discount_amounts": [],
        "discountable": True,
        "discounts": [],
        "invoice": invoice["id"],
        "livemode": invoice["livemode"],
        "metadata": {},
        "parent": None,
        "period": {"start": start, "end": end},
        "pretax_credit_amounts": [],
        "pricing": None,
        "quantity": None,
        "quantity_decimal": None,
        "subscription": None,
        "subtotal": amount,
        "taxes": [],
        "_metered": False,
        "_tax_rates": [],
    }


def priced(price: Json, unit_amount: Decimal | None) -> Json:
    """The member `pricing` of a line or an invoice item."""
    return {
        "price_details": {"price": price["id"], "product": price["product"]},
        "type": "price_details",
        "unit_amount_decimal": None if unit_amount is None else decimals.written(unit_amount),
    }


def described(price: Json, product: Json, charge: Charge) -> str:
    """Such as `31 credit × Usage (Tier 2 at $0.036 / month)`, `Usage (Tier 1 at $9.00 / month)`."""
    recurring = price["recurring"]
    every = recurring["interval"]
    if recurring["interval_count"] != 1:
        every = f"every {recurring['interval_count']} {every}s"
    per = (price["transform_quantity"] or {}).get("divide_by")
    of = f" per {per}" if per else ""
    at = f"at {money(charge.unit_amount, price['currency'])}{of} / {every}"
    if charge.tier is not None:
        at = f"Tier {charge.tier} {at}"
    if charge.part == "flat":
        return f"{product['name']} ({at})"
    unit = f"{product['unit_label']} " if product["unit_label"] else ""
    return f"{decimals.written(charge.quantity)} {unit}× {product['name']} ({at})"


def money(amount: Decimal, currency: str) -> str:
    """An amount in minor units, for a line's description."""
    major = amount if currency in _ZERO_DECIMAL else amount / 100
    places = 0 if currency in _ZERO_DECIMAL else 2
    text = decimals.written(major)
    if len(text.partition(".")[2]) < places:
        text = f"{major:.{places}f}"
    return f"${text}" if currency == "usd" else f"{text} {currency.upper()}"
