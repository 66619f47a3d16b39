"""Worlds to test with: one moved by hand and without a socket, one that is served."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import stripe

from sandbox.stripe.server import serving
from sandbox.stripe.world import World
from tests import stripe_spec
from tests.sandbox.stripe.billing import Shop, at, open_shop
from tests.sandbox.stripe.calls import Caller, Clock


@pytest.fixture(autouse=True)
def _quiet_library() -> None:
    stripe.enable_telemetry = False


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def world(clock: Clock) -> World:
    """Its clock and its lag are moved by hand; its limits are off."""
    made = World(clock=clock)
    made.settings.limits = False
    made.observers.append(stripe_spec.check)
    return made


@pytest.fixture
def call(world: World) -> Caller:
    """`call("POST", "/v1/...", {...})` with a test key."""
    return Caller(world)


@pytest.fixture
def served() -> Iterator[tuple[World, str]]:
    """A calm world on a socket, and its URL."""
    made = World(calm=True)
    made.observers.append(stripe_spec.check)
    with serving(made) as url:
        yield made, url


@pytest.fixture
def library(served: tuple[World, str]) -> Callable[..., Any]:
    """Makes a client of Stripe's own library for the served world."""

    def made(key: str = "sk_test_1", **options: Any) -> stripe.StripeClient:
        _, url = served
        addresses: Any = {"api": url, "meter_events": url}
        return stripe.StripeClient(key, base_addresses=addresses, **options)

    return made


@pytest.fixture
def shop() -> Iterator[Shop]:
    """It is 10:23:45 on the 15th of January 2026."""
    with open_shop(at("2026-01-15 10:23:45")) as opened:
        yield opened
