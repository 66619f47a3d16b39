"""Meter events: what is refused at once, what is accepted, and what accepted events come to.

Values are decimals of at most 15 significant digits, written without exponent. An identifier is
known for 24 hours. 200 means accepted; see `pipeline` for what comes later.
"""

import re
import secrets
from decimal import Decimal

from sandbox.stripe import faults, params, pipeline, streams
from sandbox.stripe.core import Call, Json, Partition, StripeError, route
from sandbox.stripe.params import Text

OLDEST_SECONDS, NEWEST_SECONDS = 35 * 86400, 5 * 60
DIGITS = 15
_PATHS = ("/v1/billing/meter_events", "/v2/billing/meter_events")
_NUMBER = re.compile(r"-?(\d+\.?\d*|\.\d+)", re.ASCII)
_DEFAULTS = {
    "customer_mapping": {"event_payload_key": "stripe_customer_id"},
    "value_settings": {"event_payload_key": "value"},
}
_CREATE = {
    "event_name!": Text(100),
    "payload!": {"*": Text(100)},
    "identifier": Text(100),
    "timestamp": int,
    "expand": params.EXPAND,
}
_ADJUST = {
    "event_name!": Text(100),
    "type!": ("cancel",),
    "cancel": {"identifier": Text(100)},
    "expand": params.EXPAND,
}


@route("POST", "/v1/billing/meter_events")
def create(call: Call) -> Json:
    given = params.check(call.params, _CREATE)
    record = draft(call, given, given.get("timestamp"))
    refuse(call, record)
    call.world.meters.accept(call.partition, record)
    return {
        "object": "billing.meter_event",
        "created": call.now,
        "event_name": record["event_name"],
        "identifier": record["identifier"],
        "livemode": call.partition.livemode,
        "payload": record["payload"],
        "timestamp": record["timestamp"],
    }


@route("POST", "/v1/billing/meter_event_adjustments")
def adjust(call: Call) -> Json:
    given = params.check(call.params, _ADJUST)
    identifier = (given.get("cancel") or {}).get("identifier")
    if not identifier:
        raise params.required("cancel[identifier]")
    cancel(call, given["event_name"], identifier)
    return {
        "object": "billing.meter_event_adjustment",
        "cancel": {"identifier": identifier},
        "event_name": given["event_name"],
        "livemode": call.partition.livemode,
        "status": "pending",
        "type": "cancel",
    }


def cancel(call: Call, event_name: str, identifier: str) -> Json:
    """Take back an event received in the last 24 hours; the summaries follow with their lag."""
    record = streams.of(call.partition).identifiers.get(identifier)
    if record is None or record["event_name"] != event_name:
        raise StripeError(
            404,
            f"No meter event found with the identifier {identifier}.",
            code="resource_missing",
            param="cancel[identifier]",
        )
    if record["received_at"] + 86400 <= call.now:
        raise StripeError(400, "Only events received within the last 24 hours can be cancelled.")
    if record["cancel"] is not None:
        raise StripeError(400, f"The event {identifier} has already been cancelled.")
    call.world.meters.cancel(call.partition, record)
    return record


def usage(
    partition: Partition, meter_id: str, customer_id: str, start: int, end: int, *, now: int
) -> Decimal:
    """What was accepted so far with a timestamp from `start` on, before `end`, by the meter's
    formula: also what the summaries do not show yet, less what is going to be rejected.

    now: the instant of the reading; an event is not read before its own timestamp is allowed.
    """
    meter = partition.get("billing.meter", meter_id)

    def counts(record: Json) -> bool:
        if record["state"] == "accepted" and pipeline.fault_of(partition, record):
            return False
        return record["state"] != "rejected" and record["cancel"] is None

    known = streams.of(partition)
    entries = known.between(meter_id, customer_id, start, min(end, now + NEWEST_SECONDS + 1))
    return streams.total(meter, entries, counts, tie=known.tie)


def stream_of(path: str, given: Json) -> tuple[str, str] | None:
    """What a call to send an event is alone at: the event's name and the customer."""
    if path not in _PATHS or not isinstance(given.get("payload"), dict):
        return None
    return str(given.get("event_name")), str(given["payload"].get("stripe_customer_id"))


def lock_timeout() -> StripeError:
    message = (
        "This object cannot be accessed right now because another API request or Stripe process "
        "is currently accessing it. If you see this error intermittently, retry the request."
    )
    return StripeError(409, message, code="lock_timeout")


def draft(call: Call, given: Json, timestamp: int | None) -> Json:
    """The record of an event, with what its meter makes of the payload."""
    payload = given["payload"]
    meter = meter_of(call.partition, given["event_name"])
    keys = meter or _DEFAULTS
    customer = payload.get(keys["customer_mapping"]["event_payload_key"]) or ""
    return {
        "event_name": given["event_name"],
        "identifier": given.get("identifier") or secrets.token_hex(16),
        "payload": payload,
        "timestamp": _now_of(call, customer) if timestamp is None else timestamp,
        "received_at": call.now,
        "meter": meter["id"] if meter else None,
        "customer": customer,
        "value": payload.get(keys["value_settings"]["event_payload_key"]),
        "key": call.idempotency_key,
        "doomed": _planted(call),
        "invalid": None,
    }


def _planted(call: Call) -> Json | None:
    """A rejection to come, if one was asked for."""
    if not call.world.faults:
        return None
    place = call.partition.account, call.partition.livemode
    line = faults.line_of("POST", "/v1/billing/meter_events", *place, call.params)
    planted = call.world.faults.take("reject", line)
    if planted is None:
        return None
    code = planted.get("code", "meter_event_customer_not_found")
    return {"code": code, "message": planted.get("message", f"Rejected on demand: {code}.")}


def refuse(call: Call, record: Json) -> None:
    """Raises: StripeError (400) for what Stripe sees at once."""
    fault = mistake(call, record)
    if fault is not None:
        code, message, param = fault
        raise StripeError(400, message, code=code, param=param)
    if is_known(call, record["identifier"]):
        message = f"An event already exists with identifier {record['identifier']}."
        raise StripeError(400, message, headers={"Stripe-Should-Retry": "false"})


def is_known(call: Call, identifier: str) -> bool:
    """Whether an event with the identifier was accepted in the last 24 hours."""
    known = streams.of(call.partition).identifiers.get(identifier)
    seconds = call.world.settings.identifier_hours * 3600
    return known is not None and known["received_at"] + seconds > call.now


def mistake(call: Call, record: Json) -> tuple[str, str, str] | None:
    """What is wrong with the event in itself: code, message and parameter."""
    meter = meter_of(call.partition, record["event_name"])
    if meter is None:
        message = f"No meter found for the event name {record['event_name']}."
        return "no_meter", message, "event_name"
    if meter["status"] != "active":
        return "archived_meter", f"The meter {meter['id']} is archived.", "event_name"
    return _odd_payload(meter, record) or _odd_timestamp(call, record)


def _odd_payload(meter: Json, record: Json) -> tuple[str, str, str] | None:
    key = meter["customer_mapping"]["event_payload_key"]
    if not record["customer"]:
        message = f"Customer mapping key {key} not found in payload."
        return "meter_event_no_customer_defined", message, "payload"
    if meter["default_aggregation"]["formula"] == "count":
        record["value"] = "1"  # a count meter counts calls, whatever they carry
        return None
    value, where = record["value"], meter["value_settings"]["event_payload_key"]
    if value is None or not _NUMBER.fullmatch(value):
        message = f"The value of payload[{where}] is not a decimal number: {value}"
        return "meter_event_invalid_value", message, f"payload[{where}]"
    if len(value.lstrip("-").replace(".", "").lstrip("0")) > DIGITS:
        message = f"The value of payload[{where}] has more than {DIGITS} significant digits."
        return "meter_event_value_too_many_digits", message, f"payload[{where}]"
    return None


def _odd_timestamp(call: Call, record: Json) -> tuple[str, str, str] | None:
    now = _now_of(call, record["customer"])
    if record["timestamp"] < now - OLDEST_SECONDS:
        message = "The timestamp must be within the past 35 calendar days."
        return "timestamp_too_far_in_past", message, "timestamp"
    if record["timestamp"] > now + NEWEST_SECONDS:
        message = "The timestamp must not be more than 5 minutes in the future."
        return "timestamp_in_future", message, "timestamp"
    return None


def _now_of(call: Call, customer: str) -> int:
    """A customer on a test clock lives by it."""
    known = call.partition.of("customer").get(customer, {})
    clock = call.partition.of("test_helpers.test_clock").get(known.get("test_clock") or "")
    return int(clock["frozen_time"]) if clock else call.now


def meter_of(partition: Partition, event_name: str) -> Json | None:
    """The active meter of the name, else an inactive one."""
    found = None
    for each in partition.of("billing.meter").values():
        if each["event_name"] == event_name:
            if each["status"] == "active":
                return each
            found = each
    return found
