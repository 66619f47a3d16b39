"""Changes of a subscription's items: other prices and quantities, items added and removed.

A metered price bills what was used while it was in force; a licensed one is settled to the second
by a pair of invoice items, what was not used and what remains.
"""

from decimal import Decimal

from sandbox.stripe import billables, invoice_items, items, metadata, rating, signup
from sandbox.stripe.core import Call, Json, StripeError


def apply(call: Call, subscription: Json, given: list[Json], how: Json, now: int) -> None:
    """Change, add and remove items as `items[]` of an update says. how: `proration_behavior`."""
    for at, each in enumerate(given):
        where = f"items[{at}]"
        if not each.get("id"):
            add(call, subscription, each, where, how, now)
            continue
        item = call.partition.get(items.KIND, each["id"], f"{where}[id]")
        if item["subscription"] != subscription["id"] or item["id"] not in subscription["_items"]:
            raise StripeError(400, f"Item {item['id']} is of another subscription.", param=where)
        if each.get("deleted"):
            remove(call, subscription, item, each, how, now)
        else:
            change(call, subscription, item, each, where, how, now)
    if how.get("proration_behavior") == "always_invoice":
        waiting = billables.pending(call.partition, subscription["customer"], subscription["id"])
        if waiting:
            signup.at_once(call, subscription, [], "subscription_update")


def add(call: Call, subscription: Json, given: Json, where: str, how: Json, now: int) -> Json:
    item = items.make(call, subscription, given, where, now)
    _prorate(call, subscription, item, how, now, 1)
    return item


def remove(call: Call, subscription: Json, item: Json, given: Json, how: Json, now: int) -> None:
    """What was used of a metered item until now is billed with the next invoice."""
    if len(subscription["_items"]) == 1:
        message = "A subscription must have at least one active plan."
        raise StripeError(400, message, param="items")
    _prorate(call, subscription, item, how, now, -1)
    if not given.get("clear_usage"):
        subscription["_leftover"] = [
            *subscription["_leftover"],
            *billables.spans(subscription, item, now),
        ]
    subscription["_items"] = [each for each in subscription["_items"] if each != item["id"]]


def change(
    call: Call, subscription: Json, item: Json, given: Json, where: str, how: Json, now: int
) -> None:
    before = items.price_of(call.partition, item)
    price = before
    if given.get("price") and given["price"] != before["id"]:
        price = items.chosen(call, given["price"], f"{where}[price]" if where else "price")
        _refuse_change(call, subscription, item, price, where)
    quantity = items.quantity(price, given, where)
    if not items.is_metered(price) and given.get("quantity") is None and item["quantity"]:
        quantity = item["quantity"]
    if (price["id"], quantity) != (before["id"], item["quantity"]):
        _switch(call, subscription, item, price, quantity, how, now)
    if "tax_rates" in given:
        item["tax_rates"] = items.rates(call, given["tax_rates"])
    item["metadata"] = metadata.merged(item["metadata"], given)
    call.partition.put(items.KIND, item)


def _switch(
    call: Call,
    subscription: Json,
    item: Json,
    price: Json,
    quantity: int | None,
    how: Json,
    now: int,
) -> None:
    before = items.price_of(call.partition, item)
    same = _cadence(before) == _cadence(price)
    if same:
        _prorate(call, subscription, item, how, now, -1)
        spans = billables.spans(subscription, item, now)
        item |= {"_price": price["id"], "quantity": quantity}
        if items.is_metered(price):
            known = [{"price": e["price"], "start": e["start"]} for e in spans]
            item["_spans"] = [*known, {"price": price["id"], "start": now}]
        else:
            subscription["_leftover"] = [*subscription["_leftover"], *spans]
            item["_spans"] = []
        _prorate(call, subscription, item, how, now, 1)
        return
    _prorate(call, subscription, item, how, now, -1)
    restart(call, subscription, now, changed=(item, price, quantity))


def restart(
    call: Call,
    subscription: Json,
    now: int,
    changed: tuple[Json, Json, int | None] | None = None,
) -> None:
    """Begin all periods anew, now: what was used is billed, and what is in advance.

    changed: an item with its new price and quantity, whose interval is another.
    """
    those = items.of(call.partition, subscription)
    sources = billables.usage(call.partition, subscription, those, now)
    subscription |= {"_leftover": [], "billing_cycle_anchor": now, "_anchor_day": None}
    subscription["billing_cycle_anchor_config"] = None
    if subscription["trial_end"] is None or subscription["trial_end"] <= now:
        subscription["status"] = "active"
    if changed is not None:
        item, price, quantity = changed
        item |= {"_price": price["id"], "quantity": quantity}
    for each in those:
        items.begin(call.partition, subscription, each, now)
        call.partition.put(items.KIND, each)
    sources += billables.advance(call.partition, subscription, those, now)
    if sources:
        signup.at_once(call, subscription, sources, "subscription_update")


def _refuse_change(call: Call, subscription: Json, item: Json, price: Json, where: str) -> None:
    others = [e for e in items.of(call.partition, subscription) if e["id"] != item["id"]]
    prices = [items.price_of(call.partition, each) for each in others]
    param = f"{where}[price]" if where else "price"
    if price["currency"] != subscription["currency"]:
        message = f"The subscription's currency is {subscription['currency']}."
        raise StripeError(400, message, param=param)
    if any(each["id"] == price["id"] for each in prices):
        message = f"Cannot add multiple subscription items with the same plan: {price['id']}"
        raise StripeError(400, message, param=param)
    if subscription["billing_mode"]["type"] == "classic":
        items.refuse_intervals([*prices, price])


def _cadence(price: Json) -> tuple[str, int]:
    return price["recurring"]["interval"], price["recurring"]["interval_count"]


def _prorate(call: Call, subscription: Json, item: Json, how: Json, now: int, sign: int) -> None:
    """Credit (-1) or charge (1) the rest of a licensed item's period."""
    price = items.price_of(call.partition, item)
    if items.is_metered(price) or how.get("proration_behavior") == "none":
        return
    if subscription["status"] == "trialing" or now >= item["current_period_end"]:
        return
    start, end = items.full_period(subscription, price, now)
    whole = sum(each.amount for each in rating.rate(price, Decimal(item["quantity"])))
    amount = sign * rating.rounded(
        Decimal(whole) * (item["current_period_end"] - now) / (end - start)
    )
    invoice_items.prorated(call, subscription, item, amount, (now, item["current_period_end"]))
