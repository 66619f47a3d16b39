"""The demo's calls, against a served stand-in."""

import pytest

from sandbox.demo import http
from sandbox.stripe.server import serving
from sandbox.stripe.world import World

KEY = "sk_test_demo"


def test_a_call_too_many_is_made_again() -> None:
    world = World(calm=True)
    world.faults.plant("refuse_429", "GET /v1/customers", times=2)
    with serving(world) as url:
        stripe = http.stripe(url, KEY)
        assert stripe.get("/v1/customers")["data"] == []
        assert not world.faults


def test_any_other_refusal_is_told_at_once() -> None:
    world = World(calm=True)
    world.faults.plant("error_500_before", "POST /v1/customers", times=2)
    with serving(world) as url, pytest.raises(http.RefusedError) as refused:
        http.stripe(url, KEY).form("/v1/customers", name="Ada")
    assert refused.value.status == 500
    assert [each["times"] for each in world.faults] == [1]


def test_a_refusal_is_told_in_the_words_of_whoever_refused() -> None:
    world = World(calm=True)
    world.faults.plant("down")
    with serving(world) as url:
        stripe = http.stripe(url, KEY)
        with pytest.raises(http.RefusedError, match=r"^GET /v1/customers: 503, Stripe is down\.$"):
            stripe.get("/v1/customers")
        with pytest.raises(http.RefusedError, match="400, The clock only goes forward"):
            stripe.post("/_sandbox/clock", {"to": 1})
        with pytest.raises(http.RefusedError, match="'account' is missing"):
            stripe.post("/_sandbox/connect", {})
        with pytest.raises(http.RefusedError, match="a JSON body needs Content-Type"):
            stripe.form("/_sandbox/connect")
