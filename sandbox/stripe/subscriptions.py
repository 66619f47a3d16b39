"""Subscriptions: what a customer has of which prices, and since when."""

from collections.abc import Callable

from sandbox.stripe import (
    billables,
    clocks,
    customers,
    discounts,
    drafting,
    expanding,
    items,
    metadata,
    paging,
    params,
    plan_changes,
    signup,
)
from sandbox.stripe import subscription_shapes as shapes
from sandbox.stripe.core import Call, Json, Partition, StripeError, route
from sandbox.stripe.drafting import Occasion
from sandbox.stripe.events import within

KIND = signup.KIND
_ENDED = ("canceled", "incomplete_expired")


@expanding.shows(KIND)
def shown(partition: Partition, subscription: Json) -> Json:
    """The subscription as Stripe shows it, its items within it."""
    those = [items.shown(partition, each) for each in items.of(partition, subscription)]
    page = {
        "object": "list",
        "data": those,
        "has_more": False,
        "url": f"/v1/subscription_items?subscription={subscription['id']}",
    }
    return subscription | {"items": page}


@route("POST", "/v1/subscriptions")
def create(call: Call) -> Json:
    given = params.check(call.params, shapes.CREATE)
    with clocks.living(call, given["customer"]) as now:
        subscription = signup.begin(call, given, now)
        _fill(call, subscription, given)
        _set_ending(call, subscription, given)
        call.partition.put(KIND, subscription)
        call.emit("customer.subscription.created", shown(call.partition, subscription))
        signup.first_invoice(call, subscription, prorate=given.get("proration_behavior") != "none")
        call.partition.put(KIND, subscription)
    return _told(call, subscription, given)


@route("GET", "/v1/subscriptions")
def index(call: Call) -> Json:
    given = params.check(call.params, shapes.LIST)
    chosen = [
        shown(call.partition, each)
        for each in paging.newest(call.partition.of(KIND))
        if _wanted(call.partition, each, given)
    ]
    page = paging.page(chosen, given, "/v1/subscriptions")
    return expanding.shown(call, page, given.get("expand"))


def _wanted(partition: Partition, subscription: Json, given: Json) -> bool:
    status = given.get("status")
    if status is None and subscription["status"] == "canceled":
        return False
    if status == "ended" and subscription["status"] not in _ENDED:
        return False
    if status not in (None, "all", "ended", subscription["status"]):
        return False
    plain = ("customer", "test_clock", "collection_method")
    if any(given.get(name) not in (None, subscription[name]) for name in plain):
        return False
    those = items.of(partition, subscription)
    if given.get("price") and given["price"] not in [each["_price"] for each in those]:
        return False
    periods = ("current_period_start", "current_period_end")
    if not all(any(within(e[name], given.get(name)) for e in those) for name in periods if those):
        return False
    return within(subscription["created"], given.get("created"))


@route("GET", "/v1/subscriptions/{subscription_exposed_id}")
def retrieve(call: Call) -> Json:
    given = params.check(call.params, {"expand": params.EXPAND})
    found = call.partition.get(KIND, call.path["subscription_exposed_id"])
    return _told(call, found, given)


@route("POST", "/v1/subscriptions/{subscription_exposed_id}")
def update(call: Call) -> Json:
    given = params.check(call.params, shapes.UPDATE)
    subscription = living(call, call.path["subscription_exposed_id"])

    def change(now: int) -> None:
        _fill(call, subscription, given)
        _set_ending(call, subscription, given)
        _set_trial(call, subscription, given, now)
        plan_changes.apply(call, subscription, given.get("items") or [], given, now)
        if given.get("billing_cycle_anchor") == "now":
            plan_changes.restart(call, subscription, now)

    changing(call, subscription, change)
    return _told(call, subscription, given)


@route("DELETE", "/v1/subscriptions/{subscription_exposed_id}")
def cancel(call: Call) -> Json:
    given = params.check(call.params, shapes.CANCEL)
    subscription = living(call, call.path["subscription_exposed_id"])
    subscription["cancellation_details"] = {
        "comment": (given.get("cancellation_details") or {}).get("comment") or None,
        "feedback": (given.get("cancellation_details") or {}).get("feedback") or None,
        "reason": "cancellation_requested",
    }
    with clocks.living(call, subscription["customer"]) as now:
        if given.get("invoice_now"):
            final_invoice(call, subscription, now)
        end(call, subscription, now)
    return _told(call, subscription, given)


def changing(call: Call, subscription: Json, change: Callable[[int], None]) -> None:
    """Make a change in the customer's present, keep it, and tell what was before."""
    with clocks.living(call, subscription["customer"]) as now:
        before = shown(call.partition, subscription)
        change(now)
        call.partition.put(KIND, subscription)
        after = shown(call.partition, subscription)
        differs = {k: v for k, v in before.items() if after[k] != v and not k.startswith("_")}
        call.emit("customer.subscription.updated", after, previous_attributes=differs)


def living(call: Call, id: str, param: str = "id") -> Json:
    """A copy to be changed and put again, so that a refused change leaves no trace.

    Raises: StripeError (404) for a subscription that is unknown or over.
    """
    subscription = dict(call.partition.get(KIND, id, param))
    if subscription["status"] in _ENDED:
        message = f"No such subscription: '{id}'"
        raise StripeError(404, message, code="resource_missing", param=param)
    return subscription


def final_invoice(call: Call, subscription: Json, now: int) -> None:
    """A draft of the usage that no invoice has yet."""
    those = items.of(call.partition, subscription)
    sources = billables.usage(call.partition, subscription, those, now)
    waiting = billables.pending(call.partition, subscription["customer"], subscription["id"])
    if not sources and not waiting:
        return
    start = min((each["current_period_start"] for each in those), default=now)
    drafting.draft(
        call,
        Occasion(
            "subscription_cycle" if subscription["cancel_at_period_end"] else "subscription_update",
            subscription["customer"],
            subscription,
            sources,
            (start, now),
            subscription["currency"],
        ),
    )


def end(call: Call, subscription: Json, now: int) -> None:
    subscription |= {"status": "canceled", "ended_at": now, "_leftover": []}
    subscription["canceled_at"] = subscription["canceled_at"] or now
    call.partition.put(KIND, subscription)
    call.emit("customer.subscription.deleted", shown(call.partition, subscription))


def _end_with_customer(call: Call, customer: str) -> None:
    for each in list(call.partition.of(KIND).values()):
        if each["customer"] == customer and each["status"] not in _ENDED:
            with clocks.living(call, customer) as now:
                end(call, each, now)


customers.ENDINGS.append(_end_with_customer)


def _told(call: Call, subscription: Json, given: Json) -> Json:
    return expanding.shown(call, shown(call.partition, subscription), given.get("expand"))


def _fill(call: Call, subscription: Json, given: Json) -> None:
    plain = ("collection_method", "days_until_due", "default_payment_method", "description")
    for name in plain:
        if name in given:
            subscription[name] = None if given[name] == "" else given[name]
    if subscription["collection_method"] == "send_invoice" and not subscription["days_until_due"]:
        message = "You must specify `days_until_due` with `collection_method` of `send_invoice`."
        raise StripeError(400, message, code="parameter_missing", param="days_until_due")
    if "default_tax_rates" in given:
        subscription["default_tax_rates"] = items.rates(call, given["default_tax_rates"])
    if "discounts" in given and subscription["id"] in call.partition.of(KIND):
        subscription["discounts"] = discounts.made(call, given["discounts"], subscription)
    if "pause_collection" in given:
        pause = given["pause_collection"]
        subscription["pause_collection"] = pause and {"resumes_at": None, **pause}
    subscription["metadata"] = metadata.merged(subscription["metadata"], given)


def _set_ending(call: Call, subscription: Json, given: Json) -> None:
    """`cancel_at_period_end` shows as `cancel_at` too."""
    now = call.world.now()
    if given.get("cancel_at") is not None and given.get("cancel_at_period_end"):
        message = "You may only specify one of: cancel_at, cancel_at_period_end."
        raise StripeError(400, message, param="cancel_at")
    if "cancel_at_period_end" in given:
        ending = bool(given["cancel_at_period_end"])
        those = items.of(call.partition, subscription)
        last = max(each["current_period_end"] for each in those)
        subscription["cancel_at_period_end"] = ending
        subscription["cancel_at"] = last if ending else None
    if "cancel_at" in given:
        if given["cancel_at"] is not None and given["cancel_at"] <= now:
            raise StripeError(400, "cancel_at must be in the future.", param="cancel_at")
        subscription |= {"cancel_at": given["cancel_at"], "cancel_at_period_end": False}
    if "cancel_at" in given or "cancel_at_period_end" in given:
        ending = subscription["cancel_at"] is not None
        subscription["canceled_at"] = now if ending else None
        reason = "cancellation_requested" if ending else None
        subscription["cancellation_details"] = subscription["cancellation_details"] | {
            "reason": reason
        }


def _set_trial(call: Call, subscription: Json, given: Json, now: int) -> None:
    if not given.get("trial_end"):
        return
    if given["trial_end"] == "now":
        if subscription["status"] == "trialing":
            subscription["trial_end"] = now
            plan_changes.restart(call, subscription, now)
        return
    subscription["trial_end"] = signup.trial_of(given, now)
    subscription["trial_start"] = subscription["trial_start"] or now
    subscription |= {"status": "trialing", "billing_cycle_anchor": subscription["trial_end"]}
    for item in items.of(call.partition, subscription):
        item["current_period_end"] = subscription["trial_end"]
        call.partition.put(items.KIND, item)
