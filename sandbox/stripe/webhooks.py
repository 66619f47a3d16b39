"""Webhook endpoints (v1, snapshots) and event destinations (v2, thin or snapshots)."""

from sandbox.stripe import instants, paging, params
from sandbox.stripe.core import Call, Json, StripeError, new_id, route
from sandbox.stripe.params import PAGE

KIND, V2_KIND = "webhook_endpoint", "v2.core.event_destination"
_CREATE = {
    "url!": str,
    "enabled_events!": [str],
    "api_version": str,
    "connect": bool,
    "description": str,
    "metadata": params.METADATA,
    "expand": params.EXPAND,
}
_UPDATE = {
    "url": str,
    "enabled_events": [str],
    "disabled": bool,
    "description": str,
    "metadata": params.METADATA,
    "expand": params.EXPAND,
}
_V2_UPDATE = {
    "name": str,
    "description": str,
    "enabled_events": [str],
    "include": [str],
    "metadata": params.METADATA,
    "webhook_endpoint": {"url!": str},
}
_V2_CREATE = {
    "name!": str,
    "description": str,
    "enabled_events!": [str],
    "event_payload!": ("snapshot", "thin"),
    "type!": ("amazon_eventbridge", "azure_event_grid", "webhook_endpoint"),
    "events_from": [str],
    "include": [str],
    "metadata": params.METADATA,
    "snapshot_api_version": str,
    "webhook_endpoint": {"url!": str},
}


@route("POST", "/v1/webhook_endpoints")
def create(call: Call) -> Json:
    given = params.check(call.params, _CREATE)
    _refuse_odd_url(given["url"])
    endpoint = {
        "id": new_id("we"),
        "object": KIND,
        "api_version": given.get("api_version"),
        "application": None,
        "created": call.now,
        "description": given.get("description"),
        "enabled_events": given["enabled_events"],
        "livemode": call.partition.livemode,
        "metadata": given.get("metadata") or {},
        "status": "enabled",
        "url": given["url"],
        "_secret": call.world.new_webhook_secret(),
        "_url": given["url"],
        "_connect": bool(given.get("connect")),
    }
    call.partition.put(KIND, endpoint)
    return endpoint | {"secret": endpoint["_secret"]}  # shown once, at creation


@route("GET", "/v1/webhook_endpoints")
def index(call: Call) -> Json:
    given = params.check(call.params, PAGE)
    return paging.page(paging.newest(call.partition.of(KIND)), given, "/v1/webhook_endpoints")


@route("GET", "/v1/webhook_endpoints/{webhook_endpoint}")
def retrieve(call: Call) -> Json:
    params.check(call.params, {"expand": params.EXPAND})
    return call.partition.get(KIND, call.path["webhook_endpoint"])


@route("POST", "/v1/webhook_endpoints/{webhook_endpoint}")
def update(call: Call) -> Json:
    given = params.check(call.params, _UPDATE)
    endpoint = call.partition.get(KIND, call.path["webhook_endpoint"])
    if given.get("url"):
        _refuse_odd_url(given["url"])
    for name in ("url", "enabled_events", "description"):
        if given.get(name) is not None:
            endpoint[name] = given[name]
    endpoint["_url"] = endpoint["url"]
    if given.get("disabled") is not None:
        endpoint["status"] = "disabled" if given["disabled"] else "enabled"
    endpoint["metadata"] |= given.get("metadata") or {}
    return call.partition.put(KIND, endpoint)


@route("DELETE", "/v1/webhook_endpoints/{webhook_endpoint}")
def delete(call: Call) -> Json:
    endpoint = call.partition.get(KIND, call.path["webhook_endpoint"])
    call.partition.remove(KIND, endpoint["id"])
    return {"id": endpoint["id"], "object": KIND, "deleted": True}


@route("POST", "/v2/core/event_destinations")
def create_v2(call: Call) -> Json:
    given = params.check(call.params, _V2_CREATE)
    if given["type"] != "webhook_endpoint" or not given.get("webhook_endpoint"):
        raise StripeError(400, "The stand-in delivers to webhook endpoints only.", param="type")
    url = given["webhook_endpoint"]["url"]
    _refuse_odd_url(url)
    secret, created = call.world.new_webhook_secret(), instants.written(call.now)
    destination = {
        "id": new_id("ed"),
        "object": V2_KIND,
        "created": created,
        "updated": created,
        "description": given.get("description") or "",
        "enabled_events": given["enabled_events"],
        "event_payload": given["event_payload"],
        "events_from": given.get("events_from") or ["self"],
        "livemode": call.partition.livemode,
        "metadata": given.get("metadata") or {},
        "name": given["name"],
        "status": "enabled",
        "type": "webhook_endpoint",
        "webhook_endpoint": {},
        "_secret": secret,
        "_url": url,
    }
    call.partition.put(V2_KIND, destination)
    shown = {"webhook_endpoint.signing_secret": ("signing_secret", secret)}
    shown["webhook_endpoint.url"] = ("url", url)
    included = dict(shown[each] for each in given.get("include") or [] if each in shown)
    return destination | {"webhook_endpoint": included}


@route("GET", "/v2/core/event_destinations")
def index_v2(call: Call) -> Json:
    params.check(call.params, {"limit": int, "page": str, "include": [str]})
    found = paging.newest(call.partition.of(V2_KIND))
    return {"data": found, "next_page_url": None, "previous_page_url": None}


@route("GET", "/v2/core/event_destinations/{id}")
def retrieve_v2(call: Call) -> Json:
    given = params.check(call.params, {"include": [str]})
    found = _destination(call)
    if "webhook_endpoint.url" in (given.get("include") or []):
        return found | {"webhook_endpoint": {"url": found["_url"]}}
    return found


@route("POST", "/v2/core/event_destinations/{id}")
def update_v2(call: Call) -> Json:
    given = params.check(call.params, _V2_UPDATE)
    found = _destination(call) | {"updated": instants.written(call.now)}
    for name in ("name", "description", "enabled_events", "metadata"):
        if given.get(name) is not None:
            found[name] = given[name]
    if given.get("webhook_endpoint"):
        found["_url"] = given["webhook_endpoint"]["url"]
        _refuse_odd_url(found["_url"])
    return call.partition.put(V2_KIND, found)


@route("POST", "/v2/core/event_destinations/{id}/disable")
def disable_v2(call: Call) -> Json:
    found = _destination(call) | {"status": "disabled", "updated": instants.written(call.now)}
    return call.partition.put(V2_KIND, found)


@route("POST", "/v2/core/event_destinations/{id}/enable")
def enable_v2(call: Call) -> Json:
    found = _destination(call) | {"status": "enabled", "updated": instants.written(call.now)}
    return call.partition.put(V2_KIND, found)


@route("POST", "/v2/core/event_destinations/{id}/ping")
def ping_v2(call: Call) -> Json:
    found = _destination(call)
    related = {
        "id": found["id"],
        "type": V2_KIND,
        "url": f"/v2/core/event_destinations/{found['id']}",
    }
    event: Json = call.world.notify(call.partition, "v2.core.event_destination.ping", related, {})
    return event


@route("DELETE", "/v2/core/event_destinations/{id}")
def delete_v2(call: Call) -> Json:
    found = _destination(call)
    call.partition.remove(V2_KIND, found["id"])
    return {"id": found["id"], "object": V2_KIND}


def _destination(call: Call) -> Json:
    found = call.partition.of(V2_KIND).get(call.path["id"])
    if found is None:
        raise StripeError(404, f"No such event destination: {call.path['id']}", code="not_found")
    return found


def _refuse_odd_url(url: str) -> None:
    if not url.startswith(("http://", "https://")):
        raise StripeError(400, "Invalid URL: An explicit scheme must be given.", param="url")
