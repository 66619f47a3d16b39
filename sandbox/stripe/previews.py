"""The next invoice of a subscription, as it would be now; nothing is kept but its lines."""

from sandbox.stripe import billables, clocks, drafting, expanding, items, params, signup
from sandbox.stripe.core import Call, Json, StripeError, new_id, route
from sandbox.stripe.drafting import Occasion

KIND = "_preview"
KEPT = 100
_ITEM = {"id": str, "price": str, "quantity": int, "deleted": bool, "clear_usage": bool}
_CREATE = {
    "currency": str,
    "customer": str,
    "expand": params.EXPAND,
    "preview_mode": ("next", "recurring"),
    "subscription": str,
    "subscription_details": {
        "cancel_at_period_end": bool,
        "cancel_now": bool,
        "items": [_ITEM],
        "proration_behavior": ("create_prorations", "none", "always_invoice"),
        "billing_mode": {"type!": ("classic", "flexible")},
    },
}


@route("POST", "/v1/invoices/create_preview")
def create(call: Call) -> Json:
    given = params.check(call.params, _CREATE)
    customer = _customer(call, given)
    with clocks.living(call, customer) as now:
        subscription = _subscription(call, given, customer)
        details = given.get("subscription_details") or {}
        if subscription is None:
            occasion = _of_a_new_one(call, customer, details, now)
        else:
            occasion = _upcoming(call, subscription, details, now)
        invoice = drafting.built(call.partition, occasion, new_id("upcoming_in"), now=now)
    invoice["automatically_finalizes_at"] = None
    _keep(call, invoice)
    return expanding.shown(call, drafting.shown(call.partition, invoice), given.get("expand"))


def _customer(call: Call, given: Json) -> str:
    if given.get("subscription"):
        found = call.partition.get("subscription", given["subscription"], "subscription")
        if given.get("customer") not in (None, found["customer"]):
            message = f"The subscription {found['id']} is not of the customer."
            raise StripeError(400, message, param="subscription")
        return str(found["customer"])
    if not given.get("customer"):
        raise params.required("customer")
    customer = call.partition.get("customer", given["customer"], "customer")
    return str(customer["id"])


def _subscription(call: Call, given: Json, customer: str) -> Json | None:
    """The one named, else the customer's that is next billed; None for items of a new one."""
    if given.get("subscription"):
        found = call.partition.of("subscription")[given["subscription"]]
        if found["status"] == "canceled":
            raise _nothing(customer)
        return found
    if (given.get("subscription_details") or {}).get("items"):
        return None
    known = [
        each
        for each in call.partition.of("subscription").values()
        if each["customer"] == customer and each["status"] != "canceled"
    ]
    if not known:
        raise _nothing(customer)
    return min(known, key=lambda each: _next_end(call, each))


def _nothing(customer: str) -> StripeError:
    message = f"No upcoming invoices for customer: {customer}"
    return StripeError(404, message, code="invoice_upcoming_none")


def _next_end(call: Call, subscription: Json) -> int:
    those = items.of(call.partition, subscription)
    return min(int(each["current_period_end"]) for each in those)


def _upcoming(call: Call, subscription: Json, details: Json, now: int) -> Occasion:
    """The items that end first: what was used of them so far, and what follows in advance."""
    partition = call.partition
    those = [dict(each) for each in items.of(partition, subscription)]
    end = min(each["current_period_end"] for each in those)
    due = [each for each in those if each["current_period_end"] == end]
    start = min(each["current_period_start"] for each in due)
    ending = details.get("cancel_at_period_end", subscription["cancel_at_period_end"])
    if details.get("cancel_now"):
        ending, end, due = True, now, those
    sources = billables.usage(partition, subscription, due, end)
    if not ending:
        after = subscription | {"status": "active"}
        changed = [_as_asked(call, each, details) for each in due]
        sources += billables.advance(partition, after, filter(None, changed), end)
    return Occasion(
        "upcoming",
        subscription["customer"],
        subscription,
        sources,
        (start, end),
        subscription["currency"],
    )


def _as_asked(call: Call, item: Json, details: Json) -> Json | None:
    """The item with the price and quantity of a change that is tried out; None: removed."""
    for each in details.get("items") or ():
        if each.get("id") == item["id"]:
            if each.get("deleted"):
                return None
            price = items.chosen(call, each.get("price") or item["_price"], "items[price]")
            quantity = each.get("quantity", item["quantity"])
            return item | {"_price": price["id"], "quantity": quantity}
    return item


def _of_a_new_one(call: Call, customer: str, details: Json, now: int) -> Occasion:
    """What a subscription to these prices would bill at its start: a metered line is of 0."""
    asked = {"customer": customer, "items": details["items"]}
    mode = details.get("billing_mode") or {"type": "flexible"}
    subscription = signup.sketched(call, asked | {"billing_mode": mode}, now)
    those = [call.partition.get(items.KIND, id) for id in subscription["_items"]]
    sources = billables.advance(call.partition, subscription, those, now)
    for each in those:
        if each["_spans"]:
            price = each["_price"]
            empty = {"of": "metered", "item": each["id"], "price": price, "start": now, "end": now}
            sources.append(empty)
        call.partition.remove(items.KIND, each["id"])
    return Occasion(
        "upcoming", customer, subscription, sources, (now, now), subscription["currency"]
    )


def _keep(call: Call, invoice: Json) -> None:
    """The last previews stay, for the pages of their lines; in memory only."""
    kept = call.partition.derived.setdefault(KIND, {})
    kept[invoice["id"]] = invoice
    while len(kept) > KEPT:
        del kept[next(iter(kept))]


def known(call: Call, id: str) -> Json | None:
    found: Json | None = call.partition.derived.get(KIND, {}).get(id)
    return found
