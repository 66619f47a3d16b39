"""The items of subscriptions, one by one."""

from sandbox.stripe import expanding, items, paging, params, plan_changes, subscriptions
from sandbox.stripe import subscription_shapes as shapes
from sandbox.stripe.core import Call, Json, missing, route

KIND = items.KIND


@route("POST", "/v1/subscription_items")
def create(call: Call) -> Json:
    given = params.check(call.params, shapes.CREATE_ITEM)
    subscription = subscriptions.living(call, given["subscription"], "subscription")
    made: list[Json] = []

    def change(now: int) -> None:
        made.append(plan_changes.add(call, subscription, given, "", given, now))

    subscriptions.changing(call, subscription, change)
    return _told(call, made[0], given)


@route("GET", "/v1/subscription_items")
def index(call: Call) -> Json:
    given = params.check(call.params, shapes.LIST_ITEMS)
    subscription = call.partition.get("subscription", given["subscription"], "subscription")
    those = [items.shown(call.partition, e) for e in items.of(call.partition, subscription)]
    page = paging.page(those, given, "/v1/subscription_items")
    return expanding.shown(call, page, given.get("expand"))


@route("GET", "/v1/subscription_items/{item}")
def retrieve(call: Call) -> Json:
    given = params.check(call.params, {"expand": params.EXPAND})
    return _told(call, _present(call)[0], given)


@route("POST", "/v1/subscription_items/{item}")
def update(call: Call) -> Json:
    given = params.check(call.params, shapes.CHANGE_ITEM)
    item, subscription = _present(call)
    subscriptions.living(call, subscription["id"])

    def change(now: int) -> None:
        plan_changes.apply(call, subscription, [{**given, "id": item["id"]}], given, now)

    subscriptions.changing(call, subscription, change)
    return _told(call, item, given)


@route("DELETE", "/v1/subscription_items/{item}")
def delete(call: Call) -> Json:
    given = params.check(call.params, shapes.DELETE_ITEM)
    item, subscription = _present(call)
    subscriptions.living(call, subscription["id"])

    def change(now: int) -> None:
        plan_changes.remove(call, subscription, item, given, given, now)

    subscriptions.changing(call, subscription, change)
    return {"id": item["id"], "object": KIND, "deleted": True}


def _present(call: Call) -> tuple[Json, Json]:
    """The item, unless it was removed, and its subscription."""
    item = call.partition.get(KIND, call.path["item"], "item")
    subscription = call.partition.get("subscription", item["subscription"])
    if item["id"] not in subscription["_items"]:
        raise missing("subscription_item", item["id"], "item")
    return item, subscription


def _told(call: Call, item: Json, given: Json) -> Json:
    return expanding.shown(call, items.shown(call.partition, item), given.get("expand"))
