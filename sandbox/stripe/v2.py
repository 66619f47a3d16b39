"""The second version of meter events: JSON and RFC 3339; a stream that validates later."""

from typing import Any

from sandbox.stripe import instants, meter_events, params
from sandbox.stripe.core import Call, Json, StripeError, new_id, route
from sandbox.stripe.params import Text

SESSION_SECONDS = 15 * 60
STREAM_EVENTS = 100
_EVENT = {
    "event_name!": Text(100),
    "payload!": {"*": Text(100)},
    "identifier": Text(100),
    "timestamp": str,
}
# v2 names what is wrong with a payload in its own words.
_CODES = {
    "meter_event_no_customer_defined": "payload_no_customer_defined",
    "meter_event_invalid_value": "payload_invalid_value",
    "meter_event_value_too_many_digits": "payload_invalid_value",
}


@route("POST", "/v2/billing/meter_events")
def create(call: Call) -> Json:
    record = _drafted(call, params.check(call.params, _EVENT))
    fault = meter_events.mistake(call, record)
    if fault is not None:
        code, message, _ = fault
        raise StripeError(400, message, code=_CODES.get(code, code))
    if meter_events.is_known(call, record["identifier"]):
        raise StripeError(
            400,
            f"An event already exists with identifier {record['identifier']}.",
            code="duplicate_meter_event",
            headers={"Stripe-Should-Retry": "false"},
        )
    call.world.meters.accept(call.partition, record)
    return {
        "object": "v2.billing.meter_event",
        "created": instants.written(call.now),
        "event_name": record["event_name"],
        "identifier": record["identifier"],
        "livemode": call.partition.livemode,
        "payload": record["payload"],
        "timestamp": instants.written(record["timestamp"]),
    }


@route("POST", "/v2/billing/meter_event_session")
def session(call: Call) -> Json:
    params.check(call.params, {})
    expires = call.now + SESSION_SECONDS
    return {
        "id": new_id("mes_test" if not call.partition.livemode else "mes"),
        "object": "v2.billing.meter_event_session",
        "authentication_token": call.world.meters.open_session(call.partition, expires),
        "created": instants.written(call.now),
        "expires_at": instants.written(expires),
        "livemode": call.partition.livemode,
    }


@route("POST", "/v2/billing/meter_event_stream")
def stream(call: Call) -> Json:
    """Take up to 100 events; whatever is wrong with them is found later. A repeated identifier
    is dropped without a word."""
    given = params.check(call.params, {"events!": [_EVENT]})
    if len(given["events"]) > STREAM_EVENTS:
        raise StripeError(400, f"At most {STREAM_EVENTS} events can be sent at once.")
    for each in given["events"]:
        _accept_later(call, _drafted(call, each))
    return {}


@route("POST", "/v2/billing/meter_event_adjustments")
def adjust(call: Call) -> Json:
    shape = {"event_name!": Text(100), "type!": ("cancel",), "cancel!": {"identifier!": Text(100)}}
    given = params.check(call.params, shape)
    identifier = given["cancel"]["identifier"]
    meter_events.cancel(call, given["event_name"], identifier)
    return {
        "id": new_id("mea_test" if not call.partition.livemode else "mea"),
        "object": "v2.billing.meter_event_adjustment",
        "cancel": {"identifier": identifier},
        "created": instants.written(call.now),
        "event_name": given["event_name"],
        "livemode": call.partition.livemode,
        "status": "pending",
        "type": "cancel",
    }


def _drafted(call: Call, given: Json) -> Json:
    text = given.get("timestamp")
    timestamp = instants.read(text, "timestamp") if text else None
    return meter_events.draft(call, given, timestamp)


def _accept_later(call: Call, record: dict[str, Any]) -> None:
    if meter_events.is_known(call, record["identifier"]):
        return
    fault = meter_events.mistake(call, record)
    if fault is not None:
        record["invalid"] = {"code": fault[0], "message": fault[1]}
    call.world.meters.accept(call.partition, record)
