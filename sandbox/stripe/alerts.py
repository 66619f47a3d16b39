"""Alerts on a meter's usage: told once for each customer, when the total reaches its bound."""

from decimal import Decimal
from typing import Any

from sandbox.stripe import customers, meter_events, paging, params, streams
from sandbox.stripe.core import Call, Json, Partition, StripeError, new_id, on_time, route
from sandbox.stripe.params import PAGE

KIND = "billing.alert"
_CREATE = {
    "alert_type!": ("usage_threshold",),
    "expand": params.EXPAND,
    "title!": str,
    "usage_threshold": {
        "filters": [{"customer": str, "type!": ("customer",)}],
        "gte!": int,
        "meter!": str,
        "recurrence!": ("one_time",),
    },
}


@route("POST", "/v1/billing/alerts")
def create(call: Call) -> Json:
    given = params.check(call.params, _CREATE)
    threshold = given.get("usage_threshold")
    if threshold is None:
        raise params.required("usage_threshold")
    call.partition.get("billing.meter", threshold["meter"], "usage_threshold[meter]")
    for each in threshold.get("filters") or ():
        customers.known(call, each.get("customer") or "", "usage_threshold[filters][customer]")
    alert = {
        "id": new_id("alrt"),
        "object": KIND,
        "alert_type": "usage_threshold",
        "livemode": call.partition.livemode,
        "status": "active",
        "title": given["title"],
        "usage_threshold": {"filters": [], **threshold},
        "_since": call.now,
        "_told": [],
    }
    call.partition.put(KIND, alert)
    return alert


@route("GET", "/v1/billing/alerts")
def index(call: Call) -> Json:
    given = params.check(call.params, {**PAGE, "alert_type": ("usage_threshold",), "meter": str})
    chosen = [
        each
        for each in paging.newest(call.partition.of(KIND))
        if given.get("meter") in (None, each["usage_threshold"]["meter"])
    ]
    return paging.page(chosen, given, "/v1/billing/alerts")


@route("GET", "/v1/billing/alerts/{id}")
def retrieve(call: Call) -> Json:
    params.check(call.params, {"expand": params.EXPAND})
    return call.partition.get(KIND, call.path["id"])


@route("POST", "/v1/billing/alerts/{id}/activate")
def activate(call: Call) -> Json:
    return _become(call, "active")


@route("POST", "/v1/billing/alerts/{id}/deactivate")
def deactivate(call: Call) -> Json:
    return _become(call, "inactive")


@route("POST", "/v1/billing/alerts/{id}/archive")
def archive(call: Call) -> Json:
    return _become(call, "archived")


def _become(call: Call, status: str) -> Json:
    params.check(call.params, {"expand": params.EXPAND})
    alert = call.partition.get(KIND, call.path["id"])
    if alert["status"] == "archived":
        raise StripeError(400, "The alert is archived.")
    return call.partition.put(KIND, alert | {"status": status})


@on_time
def watch(world: Any, partition: Partition, until: int) -> None:
    """Look at what was counted since each alert was made."""
    for alert in list(partition.of(KIND).values()):
        if alert["status"] == "active":
            _look(world, partition, alert, until)


def _look(world: Any, partition: Partition, alert: Json, until: int) -> None:
    threshold = alert["usage_threshold"]
    named = [each["customer"] for each in threshold["filters"]]
    for customer in named or streams.of(partition).customers(threshold["meter"]):
        if customer in alert["_told"]:
            continue
        since = alert["_since"]
        used = meter_events.usage(
            partition, threshold["meter"], customer, since, until + 1, now=until
        )
        if used >= Decimal(threshold["gte"]):
            alert["_told"] = [*alert["_told"], customer]
            partition.put(KIND, alert)
            triggered = {
                "object": "billing.alert_triggered",
                "alert": alert,
                "created": world.now(),
                "customer": customer,
                "livemode": partition.livemode,
                "value": str(used),
            }
            world.emit(partition, "billing.alert.triggered", triggered)
