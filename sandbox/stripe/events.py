"""What happened: v1 events with a snapshot of their object, v2 events that are sent thin."""

from typing import Any

from sandbox.stripe import deliveries, http, instants, paging, params
from sandbox.stripe.core import Call, Json, Partition, StripeError, new_id, route
from sandbox.stripe.params import PAGE, Either

KIND, V2_KIND = "event", "v2.core.event"
VERSION = "2026-05-27.dahlia"
_RANGE = {"gt": int, "gte": int, "lt": int, "lte": int}
_LIST = {
    **PAGE,
    "created": Either(int, _RANGE),
    "type": str,
    "types": [str],
    "delivery_success": bool,
}
_V2_LIST = {
    "limit": int,
    "page": str,
    "object_id": str,
    "types": [str],
    "created": {"gt": str, "gte": str, "lt": str, "lte": str},
}


def emit(world: Any, partition: Partition, type: str, obj: Json, data: Json) -> Json:
    """Keep an event of what the object is now, and see to its delivery."""
    event = {
        "id": new_id("evt"),
        "object": KIND,
        "api_version": VERSION,
        "created": world.now(),
        "data": {"object": http.public(obj), **data},
        "livemode": partition.livemode,
        "pending_webhooks": 0,
        "request": world.origin or {"id": None, "idempotency_key": None},
        "type": type,
    }
    if partition.account != world.account:
        event["account"] = partition.account
    partition.put(KIND, event)
    deliveries.post(world, partition, event)
    return event


def notify(world: Any, partition: Partition, type: str, related: Json | None, data: Json) -> Json:
    """Keep a v2 event, and see to the delivery of its thin form."""
    event: Json = {
        "id": new_id("evt_test" if not partition.livemode else "evt"),
        "object": V2_KIND,
        "created": instants.written(world.now()),
        "data": data,
        "livemode": partition.livemode,
        "type": type,
    }
    if related is not None:
        event["related_object"] = related
    if partition.account != world.account:
        event["context"] = partition.account
    partition.put(V2_KIND, event)
    deliveries.post(world, partition, event)
    return event


@route("GET", "/v1/events")
def index(call: Call) -> Json:
    given = params.check(call.params, _LIST)
    chosen = [each for each in paging.newest(call.partition.of(KIND)) if _wanted(each, given)]
    return paging.page(chosen, given, "/v1/events")


def _wanted(event: Json, given: Json) -> bool:
    types = list(given.get("types") or ([given["type"]] if given.get("type") else []))
    if types and not any(_matches(event["type"], each) for each in types):
        return False
    success = given.get("delivery_success")
    if success is not None and success != (event["pending_webhooks"] == 0):
        return False
    return within(event["created"], given.get("created"))


def _matches(type: str, wanted: str) -> bool:
    return type == wanted or (wanted.endswith("*") and type.startswith(wanted[:-1]))


def within(instant: int, wanted: Any) -> bool:
    """Whether the instant is the one, or in the range of `gt`, `gte`, `lt`, `lte`."""
    if wanted is None:
        return True
    if isinstance(wanted, int):
        return instant == wanted
    holds = {"gt": int.__gt__, "gte": int.__ge__, "lt": int.__lt__, "lte": int.__le__}
    return all(holds[name](instant, int(bound)) for name, bound in wanted.items())


@route("GET", "/v1/events/{id}")
def retrieve(call: Call) -> Json:
    params.check(call.params, {"expand": params.EXPAND})
    return call.partition.get(KIND, call.path["id"])


@route("GET", "/v2/core/events/{id}")
def retrieve_v2(call: Call) -> Json:
    found = call.partition.of(V2_KIND).get(call.path["id"])
    if found is None:
        raise StripeError(404, f"No such event: {call.path['id']}", code="not_found")
    return found


@route("GET", "/v2/core/events")
def index_v2(call: Call) -> Json:
    given = params.check(call.params, _V2_LIST)
    created = {
        k: instants.read(v, f"created[{k}]") for k, v in (given.get("created") or {}).items()
    }
    chosen = [
        each
        for each in paging.newest(call.partition.of(V2_KIND))
        if (not given.get("types") or each["type"] in given["types"])
        and (not given.get("object_id") or _related(each) == given["object_id"])
        and within(instants.read(each["created"], "created"), created or None)
    ]
    limit, first = given.get("limit") or 20, _offset(given.get("page"))
    rest = first + limit < len(chosen)
    url = f"/v2/core/events?limit={limit}&page="
    return {
        "data": chosen[first : first + limit],
        "next_page_url": f"{url}{first + limit}" if rest else None,
        "previous_page_url": f"{url}{max(0, first - limit)}" if first else None,
    }


def _related(event: Json) -> str | None:
    return (event.get("related_object") or {}).get("id")


def _offset(page: str | None) -> int:
    if not page:
        return 0
    if not (page.isascii() and page.isdigit()):
        raise StripeError(400, f"No such page: {page}", code="invalid_parameter", param="page")
    return int(page)
