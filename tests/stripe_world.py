"""Our driver in front of the stand-in, without a socket in between: fast enough for properties."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import stripe
from stripe import HTTPClient

from metering.stripe.driver import Driver
from metering.stripe.limits import Unlimited
from sandbox.stripe.http import NoAnswer
from sandbox.stripe.world import World

LIVE_KEY = "sk_live_machine"
TEST_KEY = "sk_test_machine"


class Clock:
    """An instant that is moved by hand, told in seconds and as a datetime."""

    def __init__(self, at: datetime) -> None:
        self.now = at

    def __call__(self) -> float:
        return self.now.timestamp()


class WorldClient(HTTPClient):
    """What the library calls instead of a network."""

    name = "world"

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: Any = None,
        *,
        _usage: Any = None,
    ) -> tuple[str, int, Mapping[str, str]]:
        body = post_data.encode() if isinstance(post_data, str) else (post_data or b"")
        target = "/" + url.split("/", 3)[3]
        try:
            answer = self.world.handle(method.upper(), target, dict(headers or {}), body)
        except NoAnswer as error:
            raise stripe.APIConnectionError("the connection ended") from error
        return answer.body.decode(), answer.status, answer.headers

    def close(self) -> None:
        pass


def driver_of(world: World, account: str) -> Driver:
    """A driver whose keys are the account's own, in both modes."""
    world.add_key(LIVE_KEY, account, livemode=True)
    world.add_key(TEST_KEY, account, livemode=False)
    return Driver(
        LIVE_KEY,
        TEST_KEY,
        limiter=Unlimited(),
        own_account=account,
        http_client=WorldClient(world),
        sleep=lambda seconds: None,
    )


def noon() -> datetime:
    """A full hour some days ago: events may lie around it and our database's clock ahead."""
    return datetime(2026, 11, 10, 12, tzinfo=UTC)
