"""What holds for every call: keys, limits, idempotency, accounts, faults."""

import base64
import threading

import pytest

from sandbox.stripe.http import NoAnswer
from sandbox.stripe.world import World
from tests import stripe_spec
from tests.sandbox.stripe.calls import Caller, Clock

DAY = 86400
EVENT = "/v1/billing/meter_events"


@pytest.fixture
def meter(call: Caller) -> str:
    call.customer()
    return str(call.meter()["id"])


# Keys and accounts


def test_a_request_without_a_sound_key_is_refused(call, world):
    for key, code in (("nonsense", None), ("sk_test_", None), ("pk_test_1", None)):
        said = Caller(world, key)("GET", "/v1/billing/meters")
        assert (said.status, said.error.get("code")) == (401, code), key
    said = call("GET", "/v1/billing/meters", Authorization="")
    assert "did not provide an API key" in said.error["message"]


def test_a_key_comes_as_bearer_or_as_basic_user(call):
    basic = base64.b64encode(b"sk_test_1:").decode()
    assert call("GET", "/v1/billing/meters", Authorization=f"Basic {basic}").status == 200


def test_a_revoked_key_says_so_and_is_not_shown(call, world):
    world.revoke_key("sk_test_abcdefghijklmnop")
    said = Caller(world, "sk_test_abcdefghijklmnop")("GET", "/v1/billing/meters")
    assert (said.status, said.error["code"]) == (401, "api_key_expired")
    assert "abcdefghijkl" not in said.error["message"]


def test_live_and_test_and_accounts_are_apart(call, world, meter):
    live = Caller(world, "sk_live_1")
    assert live("GET", f"/v1/billing/meters/{meter}").status == 404
    world.add_key("sk_test_other", "acct_other")
    other = Caller(world, "sk_test_other")
    assert other("GET", "/v1/billing/meters").json["data"] == []
    assert call("GET", "/v1/billing/meters", stripe_account="acct_c").status == 403
    world.connect("acct_c")
    assert call("GET", "/v1/billing/meters", stripe_account="acct_c").json["data"] == []
    assert other("GET", "/v1/billing/meters", stripe_account="acct_c").status == 403


def test_answers_tell_their_request_and_version(call):
    said = call("GET", "/v1/billing/meters", stripe_version="2026-10-28.endive")
    assert said.headers["Request-Id"].startswith("req_")
    assert said.headers["Stripe-Version"] == "2026-10-28.endive"


def test_what_there_is_not_is_404(call):
    said = call("GET", "/v1/nothing")
    assert said.error["message"] == "Unrecognized request URL (GET: /v1/nothing)."
    said = call("GET", "/v1/billing/meters/mtr_0")
    assert (said.status, said.error["code"]) == (404, "resource_missing")


@pytest.mark.parametrize("body", [b"\xff", b"a[b]=1&a=2&a[c]=3", b"payload[value][x]=1&payload=2"])
def test_a_malformed_body_is_refused(world, body):
    given = {"Authorization": "Bearer sk_test_1"}
    assert world.handle("POST", EVENT, given, body).status == 400


# Idempotency


def test_the_same_key_replays_the_first_answer_for_24_hours(call, world, clock, meter):
    first = call.send("3", key="k", identifier="a")
    again = call.send("3", key="k", identifier="a")
    assert (again.status, again.json) == (200, first.json)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Original-Request"] == first.headers["Request-Id"]
    world.settle()
    assert call.total(meter) == 3
    clock.advance(DAY)
    later = call.send("3", key="k", identifier="b")
    assert later.status == 200
    assert "Idempotent-Replayed" not in later.headers


def test_the_same_key_with_other_parameters_is_refused(call, meter):
    call.send("3", key="k", identifier="a")
    said = call.send("4", key="k", identifier="a")
    assert (said.status, said.error["type"]) == (400, "idempotency_error")


def test_keys_are_apart_between_modes(call, world, meter):
    call.send("3", key="k", identifier="a")
    live = Caller(world, "sk_live_1")
    live.customer(livemode=True)
    live.meter()
    said = live.send("4", key="k", identifier="a")
    assert said.status == 200


def test_a_refusal_by_the_endpoint_is_replayed_and_one_before_it_is_not(call, meter):
    assert call.send("x", key="k").status == 400
    assert call.send("x", key="k").headers["Idempotent-Replayed"] == "true"
    assert call.send("1", key="m", odd="1").status == 400
    assert call.send("1", key="m").status == 200


def test_two_calls_at_once_with_one_key_or_for_one_customer_and_meter_conflict(call, world, meter):
    entered, leave = threading.Event(), threading.Event()
    desk = world._desk
    wait = desk._wait

    def hang(request):
        if request.key == "slow":
            entered.set()
            leave.wait(10)
        wait(request)

    desk._wait = hang
    thread = threading.Thread(target=call.send, args=("1",), kwargs={"key": "slow"})
    thread.start()
    entered.wait(10)
    same_key = call.send("1", key="slow")
    same_stream = call.send("1", key="other")
    other_stream = call.send("1", key="third", customer="cus_2")
    leave.set()
    thread.join()
    assert (same_key.status, same_key.error["code"]) == (409, "idempotency_key_in_use")
    assert (same_stream.status, same_stream.error["code"]) == (409, "lock_timeout")
    assert other_stream.status == 200
    assert call.send("1", key="other").status == 200  # a 409 is not stored


# Limits


def test_a_sandbox_answers_25_calls_a_second_and_live_1000_meter_events(clock: Clock):
    world = World(clock=clock)
    call, live = Caller(world), Caller(world, "sk_live_1")
    call.customer()
    call.meter()
    live.customer(livemode=True)
    live.meter()
    clock.advance(1)
    statuses = [call.send("1").status for _ in range(30)]
    assert statuses == [200] * 25 + [429] * 5
    clock.advance(1)
    assert [live.send("1").status for _ in range(1001)] == [200] * 1000 + [429]
    world.connect("acct_c")
    clock.advance(1)
    connected = [
        live(
            "POST", EVENT, {"event_name": "a", "payload": {"value": "1"}}, stripe_account="acct_c"
        ).status
        for _ in range(101)
    ]
    assert connected == [400] * 100 + [429]


def test_a_call_too_many_tells_why_and_is_not_stored(clock: Clock):
    world = World(clock=clock)
    call = Caller(world)
    call.customer()
    call.meter()
    statuses = [call.send("1", key=f"k{number}").status for number in range(25)]
    said = call.send("1", key="k24", identifier="x")
    assert statuses[-1] == said.status == 429
    assert said.headers["Stripe-Rate-Limited-Reason"] == "global-rate"
    clock.advance(1)
    assert call.send("1", key="k24", identifier="x").status == 200


def test_reads_are_counted(call, world, meter):
    call("GET", "/v1/billing/meters")
    call.total(meter)
    assert world.limits.reads[world.account, False] == 2


# Faults


def test_a_dropped_answer_was_committed_and_the_retry_tells(call, world, meter):
    world.faults.plant("drop_response_after_commit", match=EVENT)
    with pytest.raises(NoAnswer):
        call.send("3", key="k", identifier="a")
    assert call.send("3", key="k", identifier="a").headers["Idempotent-Replayed"] == "true"
    assert call.send("3", key="l", identifier="a").status == 400
    world.settle()
    assert call.total(meter) == 3


def test_a_connection_may_end_before_anything_is_done(call, world, meter):
    world.faults.plant("drop_before")
    with pytest.raises(NoAnswer):
        call.send("3", key="k")
    assert "Idempotent-Replayed" not in call.send("3", key="k").headers


def test_a_500_after_the_commit_is_replayed_for_24_hours(call, world, clock, meter):
    world.faults.plant("error_500_after")
    assert call.send("3", key="k", identifier="a").status == 500
    again = call.send("3", key="k", identifier="a")
    assert (again.status, again.headers["Idempotent-Replayed"]) == (500, "true")
    other = call.send("3", key="k~1", identifier="a")
    assert other.error["message"] == "An event already exists with identifier a."
    world.settle()
    assert call.total(meter) == 3


@pytest.mark.parametrize("stored", [False, True])
def test_a_500_before_the_commit_is_stored_on_demand(call, world, meter, stored):
    world.faults.plant("error_500_before", stored=stored)
    assert call.send("3", key="k").status == 500
    assert call.send("3", key="k").status == (500 if stored else 200)


def test_a_timeout_has_or_has_not_done_it(call, world, meter):
    for commit in (False, True):
        world.faults.plant("timeout", seconds=7, commit=commit)
        with pytest.raises(NoAnswer) as hung:
            call.send("3")
        assert hung.value.after_seconds == 7
    world.settle()
    assert call.total(meter) == 3


def test_a_429_comes_with_the_headers_that_were_asked_for(call, world, meter):
    world.faults.plant("refuse_429", should_retry=False, retry_after=7)
    headers = call.send("1").headers
    assert (headers["Stripe-Should-Retry"], headers["Retry-After"]) == ("false", "7")
    world.faults.plant("refuse_429", reason=None)
    assert "Stripe-Rate-Limited-Reason" not in call.send("1").headers


def test_a_fault_hits_only_what_it_matches_and_as_often_as_told(call, world, clock, meter):
    world.faults.plant("down", match="cus_2", times=2)
    assert call.send("1").status == 200
    assert [call.send("1", customer="cus_2").status for _ in range(3)] == [503, 503, 200]
    world.faults.plant("down", times=-1)
    assert [call.send("1").status for _ in range(5)] == [503] * 5
    world.faults.clear()
    assert call.send("1").status == 200
    world.faults.plant("down", for_seconds=60)
    assert [call.send("1").status for _ in range(3)] == [503] * 3
    clock.advance(60)
    assert call.send("1").status == 200
    with pytest.raises(ValueError, match="There is no fault"):
        world.faults.plant("flood")
    with pytest.raises(ValueError, match="no regular expression"):
        world.faults.plant("down", match="(")


# The judge itself


@pytest.mark.parametrize(
    ("params", "answer", "told"),
    [
        ({"event_name": "a"}, {}, "'payload' is a required property"),
        ({"event_name": "a", "payload": {}, "odd": "1"}, {}, "'odd' was unexpected"),
        ({"event_name": "a", "payload": {}, "timestamp": "1.5"}, {}, "timestamp"),
        ({"event_name": "a", "payload": {}}, {"object": "x"}, "the answer"),
    ],
)
def test_the_specification_finds_what_is_wrong(params, answer, told):
    with pytest.raises(AssertionError, match=told):
        stripe_spec.check("POST", EVENT, params, 200, answer)
