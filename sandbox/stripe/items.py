"""The items of subscriptions: each has its own period, and remembers its prices within it.

Stored as shown, but for:
    _price:  the id of the price it has now
    _spans:  [{price, start}], the prices of this period in their order, for metered ones
"""

from collections.abc import Sequence

from sandbox.stripe import cycles, expanding
from sandbox.stripe.core import Call, Json, Partition, StripeError, new_id

KIND = "subscription_item"
MOST = 20


@expanding.shows(KIND)
def shown(partition: Partition, item: Json) -> Json:
    """The item as Stripe shows it, its price within it."""
    price = partition.of("price")[item["_price"]]
    kept = {k: v for k, v in item.items() if k != "quantity" or not is_metered(price)}
    return kept | {"price": price}


def of(partition: Partition, subscription: Json) -> list[Json]:
    return [partition.of(KIND)[id] for id in subscription["_items"]]


def price_of(partition: Partition, item: Json) -> Json:
    return partition.of("price")[item["_price"]]


def is_metered(price: Json) -> bool:
    return bool(price["recurring"] and price["recurring"]["usage_type"] == "metered")


def make(call: Call, subscription: Json, given: Json, where: str, now: int) -> Json:
    """A new item of the subscription, its period begun now.

    given: `price`, `quantity`, `metadata`, `tax_rates`. where: the parameter, for errors.
    """
    price = chosen(call, given.get("price"), f"{where}[price]" if where else "price")
    _refuse_mixture(call.partition, subscription, price, where)
    item: Json = {
        "id": new_id("si"),
        "object": KIND,
        "billing_thresholds": None,
        "created": now,
        "discounts": [],
        "metadata": given.get("metadata") or {},
        "quantity": quantity(price, given, where),
        "subscription": subscription["id"],
        "tax_rates": rates(call, given.get("tax_rates")),
        "_price": price["id"],
        "_spans": [],
    }
    begin(call.partition, subscription, item, now)
    call.partition.put(KIND, item)
    subscription["_items"] = [*subscription["_items"], item["id"]]
    return item


def chosen(call: Call, id: str | None, param: str) -> Json:
    """Raises: StripeError for a price that no subscription can have."""
    if not id:
        message = f"Missing required param: {param}."
        raise StripeError(400, message, code="parameter_missing", param=param)
    price = call.partition.get("price", id, param)
    if price["type"] != "recurring":
        message = (
            f"The price specified is set to `type=one_time` but this field only accepts prices "
            f"with `type=recurring`: {id}"
        )
        raise StripeError(400, message, param=param)
    if not price["active"]:
        message = f"The price specified is inactive. This field only accepts active prices: {id}"
        raise StripeError(400, message, param=param)
    return price


def quantity(price: Json, given: Json, where: str) -> int | None:
    """How many; None of a metered price, which counts by itself."""
    found = given.get("quantity")
    if is_metered(price):
        if found is not None:
            message = (
                "Quantity should not be specified where usage_type is `metered`. "
                f"Remove quantity from `{where or 'the item'}`"
            )
            raise StripeError(400, message, param=f"{where}[quantity]" if where else "quantity")
        return None
    if found is not None and found < 0:
        message = "This value must be greater than or equal to 0."
        raise StripeError(400, message, param=f"{where}[quantity]" if where else "quantity")
    return 1 if found is None else int(found)


def rates(call: Call, given: Sequence[str] | None) -> list[Json]:
    return [call.partition.get("tax_rate", each, "tax_rates") for each in given or ()]


def begin(partition: Partition, subscription: Json, item: Json, now: int) -> None:
    """Begin the item's period: up to the anchor's next bound, or to the end of the trial."""
    price = price_of(partition, item)
    item["current_period_start"] = now
    item["current_period_end"] = end_of_period(subscription, price, now)
    item["_spans"] = [{"price": price["id"], "start": now}] if is_metered(price) else []


def end_of_period(subscription: Json, price: Json, now: int) -> int:
    trial_end = subscription["trial_end"]
    if trial_end is not None and now < trial_end:
        return int(trial_end)
    return full_period(subscription, price, now)[1]


def full_period(subscription: Json, price: Json, at: int) -> tuple[int, int]:
    """The whole period of the anchor that holds the instant, begun or not."""
    recurring = price["recurring"]
    return cycles.period(
        anchor_of(subscription), recurring["interval"], recurring["interval_count"], at
    )


def anchor_of(subscription: Json) -> cycles.Anchor:
    return cycles.Anchor(subscription["billing_cycle_anchor"], subscription["_anchor_day"])


def _refuse_mixture(partition: Partition, subscription: Json, price: Json, where: str) -> None:
    """Of currencies, of intervals in classic mode, and of one price twice."""
    others = [price_of(partition, each) for each in of(partition, subscription)]
    param = f"{where}[price]" if where else "price"
    if len(others) >= MOST:
        raise StripeError(400, f"A subscription has at most {MOST} items.", param=param)
    if any(each["id"] == price["id"] for each in others):
        message = f"Cannot add multiple subscription items with the same plan: {price['id']}"
        raise StripeError(400, message, param=param)
    if subscription["currency"] not in (None, price["currency"]):
        message = (
            f"The price specified supports the currency `{price['currency']}`, but the "
            f"subscription has `{subscription['currency']}`."
        )
        raise StripeError(400, message, param=param)
    subscription["currency"] = price["currency"]
    if subscription["billing_mode"]["type"] == "classic":
        refuse_intervals([*others, price])


def refuse_intervals(prices: Sequence[Json]) -> None:
    """Raises: StripeError for prices of unlike intervals, which classic mode does not mix."""
    cadences = {(p["recurring"]["interval"], p["recurring"]["interval_count"]) for p in prices}
    if len(cadences) > 1:
        message = (
            "Currently, all subscription items must have the same interval and interval_count in "
            "billing mode `classic`."
        )
        raise StripeError(400, message)
