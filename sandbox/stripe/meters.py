"""Billing meters: one active one per event name; all but the display name is fixed."""

from sandbox.stripe import paging, params
from sandbox.stripe.core import Call, Json, StripeError, new_id, route
from sandbox.stripe.params import PAGE, Text

KIND = "billing.meter"
_CREATE = {
    "display_name!": Text(250),
    "event_name!": Text(100),
    "default_aggregation!": {"formula!": ("sum", "count", "last")},
    "customer_mapping": {"event_payload_key!": Text(100), "type!": ("by_id",)},
    "value_settings": {"event_payload_key!": Text(100)},
    "event_time_window": ("day", "hour"),
    "expand": params.EXPAND,
}


@route("POST", "/v1/billing/meters")
def create(call: Call) -> Json:
    given = params.check(call.params, _CREATE)
    if _active(call, given["event_name"]):
        message = f"There is already an active meter with the event name {given['event_name']}."
        raise StripeError(400, message, param="event_name")
    mapping = given.get("customer_mapping") or {}
    settings = given.get("value_settings") or {}
    meter = {
        "id": new_id("mtr_test" if not call.partition.livemode else "mtr"),
        "object": KIND,
        "created": call.now,
        "customer_mapping": {
            "event_payload_key": mapping.get("event_payload_key") or "stripe_customer_id",
            "type": "by_id",
        },
        "default_aggregation": given["default_aggregation"],
        "display_name": given["display_name"],
        "event_name": given["event_name"],
        "event_time_window": given.get("event_time_window"),
        "livemode": call.partition.livemode,
        "status": "active",
        "status_transitions": {"deactivated_at": None},
        "updated": call.now,
        "value_settings": {"event_payload_key": settings.get("event_payload_key") or "value"},
    }
    return _changed(call, meter, "created")


@route("GET", "/v1/billing/meters")
def index(call: Call) -> Json:
    given = params.check(call.params, {**PAGE, "status": ("active", "inactive")})
    meters = paging.newest(call.partition.of(KIND))
    if given.get("status"):
        meters = [each for each in meters if each["status"] == given["status"]]
    return paging.page(meters, given, "/v1/billing/meters")


@route("GET", "/v1/billing/meters/{id}")
def retrieve(call: Call) -> Json:
    params.check(call.params, {"expand": params.EXPAND})
    return call.partition.get(KIND, call.path["id"])


@route("POST", "/v1/billing/meters/{id}")
def update(call: Call) -> Json:
    given = params.check(call.params, {"display_name": Text(250), "expand": params.EXPAND})
    meter = call.partition.get(KIND, call.path["id"])
    if given.get("display_name"):
        meter |= {"display_name": given["display_name"], "updated": call.now}
    return _changed(call, meter, "updated")


@route("POST", "/v1/billing/meters/{id}/deactivate")
def deactivate(call: Call) -> Json:
    params.check(call.params, {"expand": params.EXPAND})
    meter = call.partition.get(KIND, call.path["id"])
    if meter["status"] == "inactive":
        raise StripeError(400, "The meter is already inactive.")
    meter |= {"status": "inactive", "updated": call.now}
    meter["status_transitions"] = {"deactivated_at": call.now}
    return _changed(call, meter, "deactivated")


@route("POST", "/v1/billing/meters/{id}/reactivate")
def reactivate(call: Call) -> Json:
    params.check(call.params, {"expand": params.EXPAND})
    meter = call.partition.get(KIND, call.path["id"])
    if meter["status"] == "active":
        raise StripeError(400, "The meter is already active.")
    if _active(call, meter["event_name"]):
        message = f"There is already an active meter with the event name {meter['event_name']}."
        raise StripeError(400, message)
    meter |= {"status": "active", "updated": call.now}
    meter["status_transitions"] = {"deactivated_at": None}
    return _changed(call, meter, "reactivated")


def _active(call: Call, event_name: str) -> bool:
    return any(
        each["status"] == "active" and each["event_name"] == event_name
        for each in call.partition.of(KIND).values()
    )


def _changed(call: Call, meter: Json, how: str) -> Json:
    call.partition.put(KIND, meter)
    call.emit(f"billing.meter.{how}", meter)
    return meter
