"""The real library in front of a scripted server: what leaves, and what answers mean to us."""

import json
import logging
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from metering.stripe import driver as door
from metering.stripe.driver import Driver, StripeFault
from metering.stripe.limits import Limits, LocalLimiter, Unlimited
from tests.metering.stripe.scripted import Answer, Script, error, serving

LIVE_KEY, TEST_KEY = "sk_live_planted1", "sk_test_planted2"
AT = datetime(2026, 11, 5, 13, tzinfo=UTC)
EVENT = {
    "object": "billing.meter_event",
    "created": 1,
    "event_name": "calls",
    "identifier": "i-1",
    "livemode": False,
    "payload": {},
    "timestamp": 1,
}
METER = {
    "id": "mtr_1",
    "object": "billing.meter",
    "event_name": "calls",
    "display_name": "Calls",
    "default_aggregation": {"formula": "sum"},
    "event_time_window": None,
    "status": "active",
    "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
    "value_settings": {"event_payload_key": "value"},
    "livemode": False,
}


@pytest.fixture(scope="module")
def server() -> Iterator[Script]:
    with serving() as script:
        yield script


@pytest.fixture
def stripe(server: Script) -> Script:
    server.asked.clear()
    server.answers(Answer(200, EVENT))
    return server


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def driver(stripe: Script, slept: list[float]) -> Driver:
    return made(stripe, slept)


def made(stripe: Script, slept: list[float], **members: Any) -> Driver:
    given = {
        "live_key": LIVE_KEY,
        "test_key": TEST_KEY,
        "limiter": Unlimited(),
        "base_url": stripe.url,
        "own_account": "acct_own",
        "sleep": slept.append,
        **members,
    }
    return Driver(given.pop("live_key"), given.pop("test_key"), **given)


def push(driver: Driver, mode: Any = "test", account: str | None = None, **members: Any) -> None:
    given = {
        "event_name": "calls",
        "stripe_customer": "cus_1",
        "value": Decimal("2.50"),
        "timestamp": AT,
        "identifier": "i-1",
        "idempotency_key": "i-1~1",
        **members,
    }
    driver.send_meter_event(mode, account, **given)


def refused(driver: Driver, **members: Any) -> StripeFault:
    with pytest.raises(StripeFault) as raised:
        push(driver, **members)
    return raised.value


# What leaves


def test_a_meter_event_is_these_bytes(driver: Driver, stripe: Script) -> None:
    push(driver, value=Decimal("1E-7"))
    (asked,) = stripe.asked
    assert (asked.method, asked.path) == ("POST", "/v1/billing/meter_events")
    assert asked.body == (
        b"event_name=calls&payload[stripe_customer_id]=cus_1&payload[value]=0.0000001"
        b"&identifier=i-1&timestamp=1793883600"
    )
    assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
    assert asked.headers["idempotency-key"] == "i-1~1"
    assert asked.headers["authorization"] == f"Bearer {TEST_KEY}"
    assert asked.headers["stripe-version"] == door.API_VERSION
    assert "x-stripe-client-telemetry" not in asked.headers


def test_values_keep_their_digits(driver: Driver, stripe: Script) -> None:
    for value in ("123456789.012345", "-3.10", "1E+3"):
        push(driver, value=Decimal(value))
    bodies = [dict(parse_qsl(asked.body.decode())) for asked in stripe.asked]
    assert [body["payload[value]"] for body in bodies] == ["123456789.012345", "-3.1", "1000"]
    with pytest.raises(ValueError, match="15 significant digits"):
        push(driver, value=Decimal("0.1234567890123456"))
    with pytest.raises(ValueError, match="no time zone"):
        push(driver, timestamp=AT.replace(tzinfo=None))
    assert len(stripe.asked) == 3


def test_only_another_account_is_named(driver: Driver, stripe: Script) -> None:
    for account in (None, "acct_own", "acct_other"):
        push(driver, account=account)
    named = [asked.headers.get("stripe-account") for asked in stripe.asked]
    assert named == [None, None, "acct_other"]


def test_each_mode_has_its_key(driver: Driver, stripe: Script) -> None:
    push(driver, mode="test")
    stripe.answers(Answer(200, {**EVENT, "livemode": True}))
    push(driver, mode="live")
    keys = [asked.headers["authorization"] for asked in stripe.asked]
    assert keys == [f"Bearer {TEST_KEY}", f"Bearer {LIVE_KEY}"]


def test_an_adjustment_names_what_it_takes_back(driver: Driver, stripe: Script) -> None:
    driver.cancel_meter_event(
        "test", None, event_name="calls", identifier="i-1", idempotency_key="c-1"
    )
    (asked,) = stripe.asked
    assert asked.path == "/v1/billing/meter_event_adjustments"
    assert asked.body == b"type=cancel&event_name=calls&cancel[identifier]=i-1"


def test_a_thread_keeps_one_connection(driver: Driver, stripe: Script) -> None:
    for _ in range(3):
        push(driver)
    other = threading.Thread(target=push, args=(driver,))
    other.start()
    other.join()
    ports = [asked.connection for asked in stripe.asked]
    assert len(set(ports[:3])) == 1
    assert ports[3] != ports[0]


def test_no_proxy_stands_before_a_stand_in(
    driver: Driver, stripe: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    push(driver)
    assert len(stripe.asked) == 1


def test_no_netrc_takes_the_keys_place(
    driver: Driver, stripe: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login other password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setattr(door, "is_loopback", lambda url: False)
    push(driver)
    assert stripe.asked[0].headers["authorization"] == f"Bearer {TEST_KEY}"


def test_no_redirection_is_followed(driver: Driver, stripe: Script) -> None:
    for status in (302, 307):
        stripe.answers(Answer(status, {}, {"Location": f"{stripe.url}/elsewhere"}))
        fault = refused(driver)
        assert (fault.kind, fault.answered) == ("retry", False)
    assert {asked.path for asked in stripe.asked} == {"/v1/billing/meter_events"}


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({"test_key": None}, "no_key"),
        ({"test_key": ""}, "no_key"),
        ({"test_key": LIVE_KEY}, "wrong_key"),
        ({"test_key": "planted"}, "wrong_key"),
    ],
)
def test_without_a_key_of_the_mode_nothing_leaves(
    stripe: Script, slept: list[float], keys: dict[str, Any], code: str
) -> None:
    fault = refused(made(stripe, slept, **keys))
    assert (fault.kind, fault.code, fault.sent, fault.answered) == ("auth", code, False, False)
    assert "test key" in fault.message
    assert "planted" not in f"{fault!r} {fault}"
    assert stripe.asked == []


# What answers mean

LIMITED = {"Stripe-Rate-Limited-Reason": "endpoint-rate"}


@pytest.mark.parametrize(
    ("answer", "kind", "code", "retry_after"),
    [
        (error(429, "Slow down", headers={**LIMITED, "Retry-After": "7"}), "retry", None, 7.0),
        (error(429, "Slow down", code="rate_limit", headers=LIMITED), "retry", "rate_limit", None),
        (error(429, "Locked"), "retry", "lock_timeout", 0.5),
        (error(429, "Locked", headers={"Retry-After": "2"}), "retry", "lock_timeout", 2.0),
        (error(400, "Slow down", code="rate_limit"), "retry", "rate_limit", None),
        (error(409, "In progress", code="idempotency_key_in_use"), "retry", None, None),
        (error(500, "Oh no", type="api_error", headers={"Retry-After": "3"}), "retry", None, 3.0),
        (error(503, "Oh no", type="api_error"), "retry", "api_error", None),
        (Answer(502, b"<html>Bad Gateway", {"Retry-After": "5"}), "retry", None, 5.0),
        (Answer(429, b"<html>Too many"), "retry", None, 0.5),
        (Answer(500, {"error": None}), "retry", None, None),
        (Answer(500, {"error": "down"}), "retry", None, None),
        (Answer(500, {"error": ["down"]}), "retry", None, None),
        (Answer(500, []), "retry", None, None),
        (error(400, "An event already exists with identifier i-1."), "duplicate", None, None),
        (error(400, "Again", code="duplicate_meter_event"), "duplicate", None, None),
        (error(401, "Invalid API Key provided: sk_test_****nted"), "auth", None, None),
        (error(403, "No access", code="more_permissions_required"), "auth", None, None),
        (error(404, "No such meter", code="resource_missing"), "gone", "resource_missing", None),
        (error(400, "No such customer: 'cus_1'", code="resource_missing"), "gone", None, None),
        (error(400, "Archived", code="archived_meter"), "rejected", "archived_meter", None),
        (error(400, "Other", type="idempotency_error"), "rejected", "idempotency_error", None),
        (error(400, "Did not: An event already exists with identifier"), "rejected", None, None),
        (error(402, "Card", type="card_error", code="card_declined"), "rejected", None, None),
    ],
)
def test_each_refusal_is_of_a_kind(
    driver: Driver,
    stripe: Script,
    slept: list[float],
    answer: Answer,
    kind: str,
    code: str | None,
    retry_after: float | None,
) -> None:
    stripe.answers(answer)
    fault = refused(driver)
    assert fault.kind == kind
    assert fault.sent
    if fault.code != "unreadable_answer":
        assert (fault.answered, fault.status) == (True, answer.status)
        assert fault.retry_after == retry_after
    assert code in (None, fault.code)
    # A push is tried once, whatever came of it: its row decides.
    assert len(stripe.asked) == 1
    assert slept == []
    # No shape of a key in the message, whole or abbreviated.
    assert "sk_" not in fault.message


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b"<html>Welcome to this hotel"),
        Answer(200, b""),
        Answer(200, b"\xff\xfe"),
        Answer(200, [1]),
        Answer(403, b"<html>Blocked"),
        Answer(404, b"<html>Not found"),
        Answer(400, {"error": "not Stripe's"}),
        Answer(404, {"detail": "not Stripe's"}),
    ],
)
def test_what_is_not_stripes_answer_tells_nothing(
    driver: Driver, stripe: Script, answer: Answer
) -> None:
    stripe.answers(answer)
    fault = refused(driver)
    assert (fault.kind, fault.answered, fault.sent) == ("retry", False, True)
    assert fault.code == "unreadable_answer"


def test_no_answer_leaves_it_open(stripe: Script, slept: list[float]) -> None:
    hasty = made(stripe, slept, timeout_seconds=0.15)
    for silent in (Answer(drops=True), Answer(200, EVENT, hangs=0.4)):
        stripe.answers(silent)
        fault = refused(hasty)
        assert (fault.kind, fault.answered, fault.sent) == ("retry", False, True)
        assert (fault.status, fault.code) == (None, "no_answer")
    assert len(stripe.asked) == 2


def test_what_never_reached_stripe_was_not_sent(stripe: Script, slept: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    fault = refused(made(stripe, slept, base_url=f"http://127.0.0.1:{port}"))
    assert (fault.kind, fault.answered, fault.sent) == ("retry", False, False)
    assert "could not be reached" in fault.message


def test_an_answer_of_the_other_mode_is_believed_in_nothing(driver: Driver, stripe: Script) -> None:
    stripe.answers(Answer(200, {**EVENT, "livemode": True}))
    fault = refused(driver)
    assert (fault.kind, fault.code) == ("auth", "other_mode")
    assert fault.message == "This key is a live key, but it is set as the test key."
    listed = {"object": "list", "data": [METER, {**METER, "livemode": True}], "has_more": False}
    stripe.answers(Answer(200, listed))
    with pytest.raises(StripeFault, match="is a live key"):
        next(driver.meters("test", None))
    stripe.answers(Answer(200, EVENT))
    with pytest.raises(StripeFault, match="is a test key"):
        push(driver, mode="live")


def test_no_key_is_shown_or_logged(
    driver: Driver, stripe: Script, caplog: pytest.LogCaptureFixture
) -> None:
    stripe.answers(error(401, f"Invalid API Key provided: {TEST_KEY}; or rk_live_9*x, whsec_q"))
    with caplog.at_level(logging.DEBUG):
        fault = refused(driver)
    for text in (f"{driver!r} {fault!r} {fault} {fault.args}", caplog.text):
        assert not any(each in text for each in ("planted", "rk_live_9", "whsec_q"))
    assert fault.message == "Invalid API Key provided: [key]; or [key], [key]"


# Questions are repeated

ROW = {"id": "s", "meter": "mtr_1", "livemode": False, "object": "billing.meter_event_summary"}


def test_a_question_is_repeated_as_stripe_asks(
    driver: Driver, stripe: Script, slept: list[float]
) -> None:
    throttled = error(429, "Slow down", headers={**LIMITED, "Retry-After": "3"})
    stripe.answers(throttled, error(500, "Oh no"), Answer(drops=True), Answer(200, METER))
    assert driver.meter("test", None, "mtr_1").formula == "sum"
    assert len(stripe.asked) == 4
    assert len(slept) == 3
    assert 3.25 <= slept[0] <= 3.5
    assert 0.5 <= slept[1] <= 1.0
    assert 1.0 <= slept[2] <= 2.0


def test_a_question_is_given_up_after_three_repetitions(
    driver: Driver, stripe: Script, slept: list[float]
) -> None:
    stripe.answers(error(500, "Oh no"))
    with pytest.raises(StripeFault, match="Oh no"):
        driver.meter("test", None, "mtr_1")
    assert (len(stripe.asked), len(slept)) == (4, 3)


def test_a_question_that_would_take_too_long_is_given_up(
    driver: Driver, stripe: Script, slept: list[float]
) -> None:
    stripe.answers(error(429, "Slow down", headers={**LIMITED, "Retry-After": "60"}))
    with pytest.raises(StripeFault) as raised:
        driver.meter("test", None, "mtr_1")
    assert raised.value.retry_after == 60.0
    assert (len(stripe.asked), slept) == (1, [])


def test_what_would_be_refused_again_is_not_repeated(
    driver: Driver, stripe: Script, slept: list[float]
) -> None:
    stripe.answers(error(404, "No such meter", code="resource_missing"))
    with pytest.raises(StripeFault) as raised:
        driver.meter("test", None, "mtr/../x?y")
    assert raised.value.kind == "gone"
    assert [asked.path for asked in stripe.asked] == ["/v1/billing/meters/mtr%2F..%2Fx%3Fy"]
    assert slept == []


def test_what_makes_something_is_not_repeated(
    driver: Driver, stripe: Script, slept: list[float]
) -> None:
    stripe.answers(error(500, "Oh no"))
    with pytest.raises(StripeFault):
        driver.create_meter(
            "test", None, display_name="Calls", event_name="calls", idempotency_key="m-1"
        )
    assert (len(stripe.asked), slept) == (1, [])


def test_our_own_limit_is_waited_for_but_not_for_long(stripe: Script, slept: list[float]) -> None:
    ticks = [0.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        ticks[0] += seconds

    limiter = LocalLimiter(Limits(test=2), workers=1, clock=lambda: ticks[0])
    slow = made(stripe, slept, limiter=limiter, sleep=sleep)
    push(slow)
    assert slept == []
    push(slow)
    assert sum(slept) > 0
    stuck = LocalLimiter(Limits(test=1), workers=100, clock=lambda: 0.0)
    slow = made(stripe, slept, limiter=stuck, sleep=sleep)
    push(slow)
    fault = refused(slow)
    assert (fault.kind, fault.code, fault.sent) == ("retry", "own_limit", False)
    assert fault.retry_after is not None
    assert len(stripe.asked) == 3


# What answers say


def page(objects: list[dict[str, Any]], *, more: bool) -> Answer:
    return Answer(200, {"object": "list", "data": objects, "has_more": more, "url": "/v1"})


def test_summaries_come_whole_exact_and_oldest_first(driver: Driver, stripe: Script) -> None:
    start = int(AT.timestamp())
    hours = [
        {**ROW, "id": f"s{hour}", "start_time": start + 3600 * hour, "end_time": start + 3600}
        for hour in range(3)
    ]
    first = b'{"object":"list","has_more":true,"data":[%s,%s]}' % (
        _summary(hours[2], "0.30000000000000004"),
        _summary(hours[1], "1e3"),
    )
    second = b'{"object":"list","has_more":false,"data":[%s]}' % _summary(hours[0], "7")
    stripe.answers(Answer(200, first), Answer(200, second))
    found = driver.summaries(
        "test", None, "mtr_1", "cus_1", AT, AT + timedelta(hours=3), window="hour"
    )
    assert [summary.value for summary in found] == [Decimal(7), Decimal(1000), Decimal("0.3")]
    assert found[0].start_at == AT
    queries = [dict(parse_qsl(urlsplit(asked.path).query)) for asked in stripe.asked]
    assert queries[0] == {
        "customer": "cus_1",
        "start_time": str(start),
        "end_time": str(start + 3 * 3600),
        "value_grouping_window": "hour",
        "limit": "100",
    }
    assert queries[1] == {**queries[0], "starting_after": "s1"}


def _summary(row: dict[str, Any], value: str) -> bytes:
    return json.dumps({**row, "aggregated_value": 0}).replace(": 0}", f": {value}}}").encode()


def test_events_after_one_come_oldest_first(driver: Driver, stripe: Script) -> None:
    def event(number: int) -> dict[str, Any]:
        data = {"object": {"id": "sub_1"}}
        return {
            "id": f"evt_{number}",
            "type": "customer.subscription.updated",
            "created": number,
            "livemode": False,
            "data": data,
        }

    stripe.answers(page([event(3), event(2)], more=True), page([event(4)], more=False))
    found = list(driver.events("test", None, after="evt_1", types=("a", "b")))
    assert [each.id for each in found] == ["evt_2", "evt_3", "evt_4"]
    assert found[0].object["id"] == "sub_1"
    queries = [dict(parse_qsl(urlsplit(asked.path).query)) for asked in stripe.asked]
    assert [query["ending_before"] for query in queries] == ["evt_1", "evt_3"]
    assert (queries[0]["types[0]"], queries[0]["types[1]"]) == ("a", "b")
    stripe.answers(page([event(3), event(2)], more=False))
    assert [each.id for each in driver.events("test", None, since=AT)] == ["evt_2", "evt_3"]


def test_a_subscription_of_many_items_is_read_whole(driver: Driver, stripe: Script) -> None:
    price = {
        "id": "price_1",
        "product": {"id": "prod_1"},
        "currency": "usd",
        "active": True,
        "recurring": {
            "meter": "mtr_1",
            "usage_type": "metered",
            "interval": "month",
            "interval_count": 1,
        },
    }
    items = [
        {
            "id": f"si_{number}",
            "price": price,
            "current_period_start": 1,
            "current_period_end": 2,
            "created": 1,
        }
        for number in range(2)
    ]
    subscription = {
        "id": "sub_1",
        "customer": "cus_1",
        "status": "active",
        "items": {"data": items[:1], "has_more": True},
        "billing_cycle_anchor": 1,
        "start_date": 1,
        "created": 1,
        "cancel_at": None,
        "pause_collection": {"behavior": "void"},
        "livemode": False,
    }
    stripe.answers(Answer(200, subscription), page(items, more=False))
    found = driver.subscription("test", None, "sub_1")
    assert [item.id for item in found.items] == ["si_0", "si_1"]
    assert (found.items[0].price.meter_id, found.items[0].price.product_id) == ("mtr_1", "prod_1")
    assert found.is_paused
    assert stripe.asked[1].path == "/v1/subscription_items?subscription=sub_1&limit=100"


def test_an_object_that_is_not_as_known_is_a_fault(driver: Driver, stripe: Script) -> None:
    stripe.answers(Answer(200, {"id": "mtr_1"}))
    with pytest.raises(StripeFault) as raised:
        driver.meter("test", None, "mtr_1")
    assert (raised.value.kind, raised.value.code) == ("rejected", "unexpected_answer")
    with pytest.raises(StripeFault, match="list is not as we know it"):
        next(driver.meters("test", None))


def test_a_meter_report_joins_samples_to_idempotency_keys(driver: Driver, stripe: Script) -> None:
    report = {
        "id": "evt_test_1",
        "object": "v2.core.event",
        "type": "v1.billing.meter.error_report_triggered",
        "created": "2026-11-05T13:00:00.000Z",
        "livemode": False,
        "related_object": {"id": "mtr_1", "type": "billing.meter", "url": "/v1/x"},
        "data": {
            "developer_message_summary": "There are errors",
            "validation_start": "2026-11-05T12:00:00Z",
            "validation_end": "2026-11-05T13:00:00Z",
            "reason": {
                "error_count": 2,
                "error_types": [
                    {
                        "code": "archived_meter",
                        "error_count": 2,
                        "sample_errors": [
                            {"error_message": "no", "request": {"identifier": "i-1~1"}}
                        ],
                    }
                ],
            },
        },
    }
    stripe.answers(Answer(200, report))
    found = driver.meter_report("test", "acct_other", "evt_test_1")
    assert (found.meter_id, found.end_at) == ("mtr_1", AT)
    (errors,) = found.errors
    assert (errors.code, errors.count, errors.samples[0].request) == ("archived_meter", 2, "i-1~1")
    assert stripe.asked[0].headers["stripe-context"] == "acct_other"
    assert "stripe-account" not in stripe.asked[0].headers
