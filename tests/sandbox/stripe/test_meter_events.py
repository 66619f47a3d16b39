"""Meter events: what is refused at once, what later, and what the summaries show."""

import json
from decimal import Decimal
from typing import Any

import pytest

from sandbox.stripe import meter_events
from tests.sandbox.stripe.calls import START, Caller, Clock

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.fixture
def meter(call: Caller) -> Any:
    call.customer()
    return call.meter()["id"]


def test_an_accepted_event_is_seen_only_after_the_lag(call, world, meter):
    assert call.send("3").status == 200
    assert call.total(meter) == 0
    world.settle()
    assert call.total(meter) == 3


def test_an_invoice_counts_what_the_summaries_do_not_show_yet(call, world, meter):
    call.send("3")
    call.send("4", customer="cus_nobody")

    def used(customer: str) -> Decimal:
        span = (START - DAY, START + DAY)
        return meter_events.usage(world.partition(), meter, customer, *span, now=START)

    assert used("cus_1") == 3
    assert used("cus_nobody") == 0


def test_a_repeated_identifier_is_refused_as_documented_for_24_hours(call, clock, meter):
    call.send("1", identifier="a")
    again = call.send("1", identifier="a")
    assert (again.status, again.headers["Stripe-Should-Retry"]) == (400, "false")
    assert again.error["message"] == "An event already exists with identifier a."
    assert again.error["type"] == "invalid_request_error"
    assert "code" not in again.error
    clock.advance(DAY - 1)
    assert call.send("1", identifier="a").status == 400
    clock.advance(1)
    assert call.send("1", identifier="a").status == 200


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("1234567890123456", "meter_event_value_too_many_digits"),
        ("0.1234567890123456", "meter_event_value_too_many_digits"),
        ("1e3", "meter_event_invalid_value"),
        ("", "meter_event_invalid_value"),
        ("NaN", "meter_event_invalid_value"),
        ("١", "meter_event_invalid_value"),
        ("1_000", "meter_event_invalid_value"),
    ],
)
def test_a_value_that_is_no_plain_decimal_of_15_digits_is_refused(call, meter, value, code):
    said = call.send(value)
    assert (said.status, said.error["code"]) == (400, code)


def test_digits_and_signs_are_kept_exactly(call, world, meter):
    for value in ("12345678901.1234", "0.000001", "-0.0000005", "000123456789012345"):
        assert call.send(value).status == 200, value
    world.settle()
    sum = Decimal("12345678901.1234") + Decimal("0.0000005") + 123456789012345
    span = (START - DAY, START + HOUR)
    target = f"/v1/billing/meters/{meter}/event_summaries?customer=cus_1&start_time={span[0]}"
    target += f"&end_time={span[1]}"
    body = world.handle("GET", target, {"Authorization": "Bearer sk_test_1"}).body
    assert json.loads(body, parse_float=Decimal)["data"][0]["aggregated_value"] == sum


def test_timestamps_reach_from_35_days_back_to_5_minutes_ahead(call, meter):
    for seconds, status in ((-35 * DAY, 200), (-35 * DAY - 1, 400), (300, 200), (301, 400)):
        assert call.send("1", timestamp=START + seconds).status == status, seconds
    assert call.send("1", timestamp=START + 301).error["code"] == "timestamp_in_future"


def test_a_name_without_a_meter_and_an_archived_meter_are_refused(call, world, meter):
    assert call.send("1", event_name="nothing").error["code"] == "no_meter"
    call("POST", f"/v1/billing/meters/{meter}/deactivate")
    assert call.send("1").error["code"] == "archived_meter"
    call("POST", f"/v1/billing/meters/{meter}/reactivate")
    assert call.send("1").status == 200


def test_the_payload_is_flat_and_needs_the_customer(call, meter):
    path = "/v1/billing/meter_events"
    nested = {"event_name": "api_calls", "payload": {"value": {"a": "1"}}}
    assert call("POST", path, nested).status == 400
    nobody = {"event_name": "api_calls", "payload": {"value": "1"}}
    said = call("POST", path, nobody)
    assert said.error["code"] == "meter_event_no_customer_defined"


def test_parameters_are_named_when_unknown_missing_or_misshapen(call, meter):
    path = "/v1/billing/meter_events"
    said = call("POST", path, {"event_name": "api_calls"})
    assert said.error["message"] == "Missing required param: payload."
    said = call("POST", path, {"event_name": "a", "payload": {"value": "1"}, "quantity": "1"})
    assert said.error["message"] == "Received unknown parameter: quantity"
    said = call.send("1", timestamp="yesterday")
    assert said.error["param"] == "timestamp"
    said = call("POST", "/v1/billing/meters", {"default_aggregation": {"formula": "max"}})
    assert said.error["param"] == "default_aggregation[formula]"


def test_one_meter_is_active_for_a_name(call, meter):
    params = {"display_name": "B", "event_name": "api_calls"}
    params |= {"default_aggregation": {"formula": "sum"}}
    assert call("POST", "/v1/billing/meters", params).status == 400


def test_an_unknown_customer_is_accepted_and_reported_later(call, world, meter):
    for number in range(5):
        assert call.send("1", customer="cus_x", key=f"key-{number}").status == 200
    world.settle()
    (event,) = call("GET", "/v2/core/events").json["data"]
    assert event["type"] == "v1.billing.meter.error_report_triggered"
    assert event["related_object"]["id"] == meter
    reason = event["data"]["reason"]
    (kind,) = reason["error_types"]
    assert (reason["error_count"], kind["error_count"]) == (5, 5)
    assert kind["code"] == "meter_event_customer_not_found"
    named = [each["request"]["identifier"] for each in kind["sample_errors"]]
    assert named == ["key-0", "key-1", "key-2"]


def test_a_meter_that_is_archived_meanwhile_rejects_what_waits(call, world, meter):
    call.send("1")
    call("POST", f"/v1/billing/meters/{meter}/deactivate")
    world.settle()
    (event,) = call("GET", "/v2/core/events").json["data"]
    assert event["data"]["reason"]["error_types"][0]["code"] == "archived_meter"
    assert call.total(meter) == 0


def test_the_next_events_can_be_rejected_on_demand(call, world, meter):
    world.faults.plant("reject", match="cus_1", times=2, code="meter_event_invalid_value")
    for value in ("1", "2", "4"):
        assert call.send(value).status == 200
    world.settle()
    assert call.total(meter) == 4


def test_count_counts_calls_whatever_they_carry(call, world):
    call.customer()
    meter = call.meter(formula="count")["id"]
    call.send("5")
    call.send("7.5")
    world.settle()
    assert call.total(meter) == 2


def test_last_takes_the_latest_timestamp_and_then_the_latest_arrival(call, world):
    call.customer()
    meter = call.meter(formula="last")["id"]
    assert call.total(meter) == 0
    for value, seconds in (("5", 0), ("6", 0), ("7", -60)):
        call.send(value, timestamp=START + seconds)
    world.settle()
    assert call.total(meter) == 6


def test_in_a_time_window_only_what_was_received_last_counts(call, world):
    call.customer()
    meter = call.meter(event_time_window="hour")["id"]
    hour = START // HOUR * HOUR
    for value, second in (("5", hour + 10), ("9", hour + 5), ("2", hour - 1)):
        call.send(value, timestamp=second)
    world.settle()
    assert call.total(meter) == 11


def test_a_cancelled_event_goes_from_the_summaries_with_the_lag(call, world, clock, meter):
    call.send("3", identifier="a")
    call.send("4", identifier="b")
    world.settle()
    params = {"event_name": "api_calls", "type": "cancel", "cancel": {"identifier": "a"}}
    path = "/v1/billing/meter_event_adjustments"
    assert call("POST", path, params).json["status"] == "pending"
    assert call.total(meter) == 7
    used = meter_events.usage(world.partition(), meter, "cus_1", START, START + 1, now=START)
    assert used == 4
    world.settle()
    assert call.total(meter) == 4
    assert call("POST", path, params).status == 400
    clock.advance(DAY)
    params["cancel"] = {"identifier": "b"}
    assert call("POST", path, params).status == 400
    params["cancel"] = {"identifier": "c"}
    assert call("POST", path, params).status == 404


def test_summaries_want_aligned_instants_and_cut_at_ten(call, world, meter):
    hour = START // HOUR * HOUR
    for back in range(12):
        call.send(str(back + 1), timestamp=hour - back * HOUR)
    world.settle()
    assert call.summaries(meter, START + 1, START + MINUTE).status == 400
    said = call.summaries(meter, START, START + HOUR, value_grouping_window="hour")
    assert "hour boundaries" in said.error["message"]
    said = call.summaries(meter, hour, hour + DAY, value_grouping_window="day")
    assert said.status == 400
    span = (hour - 20 * HOUR, hour + HOUR)
    first = call.summaries(meter, *span, value_grouping_window="hour").json
    assert (len(first["data"]), first["has_more"]) == (10, True)
    rest = call.summaries(
        meter, *span, value_grouping_window="hour", starting_after=first["data"][-1]["id"]
    ).json
    assert [each["aggregated_value"] for each in rest["data"]] == [11, 12]
    assert call.summaries(meter, *span, limit=101).status == 400


def test_a_range_ends_before_its_end(call, world, meter):
    call.send("1", timestamp=START)
    call.send("2", timestamp=START - 1)
    world.settle()
    said = call.summaries(meter, START - MINUTE, START).json["data"]
    assert [each["aggregated_value"] for each in said] == [2]


def test_the_second_version_validates_at_once_and_the_stream_later(call, world, meter):
    event = {"event_name": "api_calls", "identifier": "a"}
    event["payload"] = {"value": "2", "stripe_customer_id": "cus_1"}
    said = call("POST", "/v2/billing/meter_events", event | {"timestamp": "2026-09-21T13:30:00Z"})
    assert said.status == 200, said.json
    again = call("POST", "/v2/billing/meter_events", event)
    assert (again.status, again.error["code"]) == (400, "duplicate_meter_event")
    session = call("POST", "/v2/billing/meter_event_session").json
    stream = Caller(world, session["authentication_token"])
    path = "/v2/billing/meter_event_stream"
    events = [
        {"event_name": "api_calls", "payload": {"value": "5", "stripe_customer_id": "cus_1"}},
        {"event_name": "nothing", "payload": {"value": "5", "stripe_customer_id": "cus_1"}},
        {"event_name": "api_calls", "payload": {"value": "x", "stripe_customer_id": "cus_1"}},
        event,
    ]
    assert stream("POST", path, {"events": events}).status == 200
    world.settle()
    assert call.total(meter) == 7
    told = {each["type"] for each in call("GET", "/v2/core/events").json["data"]}
    assert told == {
        "v1.billing.meter.error_report_triggered",
        "v1.billing.meter.no_meter_found",
    }
    assert stream("POST", path, {"events": events * 26}).status == 400
    assert call("POST", path, {"events": events}).status == 401


def test_a_session_ends_after_a_quarter_of_an_hour(call, world, clock: Clock, meter):
    session = call("POST", "/v2/billing/meter_event_session").json
    stream = Caller(world, session["authentication_token"])
    clock.advance(15 * MINUTE)
    said = stream("POST", "/v2/billing/meter_event_stream", {"events": []})
    assert (said.status, said.error["code"]) == (401, "billing_meter_event_session_expired")


def test_a_customer_on_a_test_clock_lives_by_it(call, world, meter):
    world.partition().put("test_helpers.test_clock", {"id": "clock_1", "frozen_time": START + DAY})
    call.customer("cus_2", test_clock="clock_1")
    assert call.send("1", customer="cus_2", timestamp=START + DAY).status == 200
    assert call.send("1", timestamp=START + DAY).status == 400
