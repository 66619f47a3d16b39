"""Which time an object lives by: the stand-in's, or that of its customer's test clock."""

import contextlib
from collections.abc import Iterator

from sandbox.stripe.core import Call, Partition

KIND = "test_helpers.test_clock"


def clock_of(partition: Partition, customer: str | None) -> str | None:
    """The test clock that the customer is attached to."""
    known = partition.of("customer").get(customer or "", {})
    found: str | None = known.get("test_clock")
    return found


def now_of(call: Call, customer: str | None) -> int:
    """The customer's present: in work that falls due on a clock, the instant it fell due."""
    clock = call.partition.of(KIND).get(clock_of(call.partition, customer) or "")
    return int(clock["frozen_time"]) if clock else int(call.world.now())


@contextlib.contextmanager
def living(call: Call, customer: str | None) -> Iterator[int]:
    """Work in the customer's present; gives it."""
    now = now_of(call, customer)
    with call.world.at(now):
        yield now
