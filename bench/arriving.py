"""From an event's POST until the stand-in's total holds it, with all that the sandbox has on.

The web, all workers, the clock, and the stand-in with its lag of 2 to 4 s, its 20 ms and its 25
calls a second: the programs of `make dev`, without its demo. Of each customer, the first event
meets an idle stream; each further one is posted as soon as the one before was sent, when its
segment has to wait longest: no segment is pushed oftener than every 10 s.
"""

import json
import time
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median

from bench.connected import StandIn, customer, standing_in
from bench.events import METRIC
from bench.rounds import Line
from bench.setting import TENANT, Setting

CUSTOMERS, EVENTS = 6, 4
# Between two customers' first events: they should not all wait in step.
APART_SECONDS = 0.7
POLL_SECONDS = 0.05
# All events are of one segment, whatever the hour turns to meanwhile.
_HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
LONGEST_SECONDS = 120.0


@dataclass
class _Way:
    """One customer's events, each of the quantity 1. taken: seconds, in their order."""

    name: str
    posted_at: list[float] = field(default_factory=list)
    taken: list[float] = field(default_factory=list)


def to_stripe(setting: Setting) -> Line:
    """The slowest of all: that is what the gate is about."""
    customers, events = (2, 2) if setting.quick else (CUSTOMERS, EVENTS)
    ways = [_Way(customer(number)) for number in range(customers)]
    with (
        standing_in(setting, customers=customers, calm=False) as stand_in,
        setting.stack.working(["counters", "stripe", "bulk"], stand_in.environment),
        setting.stack.program("clock", ["-m", "jobs.schedule"], stand_in.environment),
    ):
        started = time.monotonic()
        while any(len(way.taken) < events for way in ways):
            if time.monotonic() - started > LONGEST_SECONDS:
                raise RuntimeError(f"not all had arrived after {LONGEST_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)
            for number, way in enumerate(ways):
                if not way.posted_at and time.monotonic() - started > number * APART_SECONDS:
                    _post(setting, way)
            _look(setting, stand_in, [way for way in ways if way.posted_at], events)
    first, further = [way.taken[0] for way in ways], [s for way in ways for s in way.taken[1:]]
    taken = first + further
    return Line(
        "to_stripe",
        "POST to Stripe's total in the sandbox, slowest",
        max(taken),
        "s",
        spread=(min(taken), max(taken)),
        details={
            "events": len(taken),
            "median_s": median(taken),
            "first_median_s": median(first),
            "first_greatest_s": max(first),
            "further_median_s": median(further),
            "further_greatest_s": max(further),
        },
    )


def _look(setting: Setting, stand_in: StandIn, ways: list[_Way], events: int) -> None:
    now = int(time.time())
    spans = [
        {"event_name": METRIC, "customer": way.name, "start": now - 86_400, "end": now + 86_400}
        for way in ways
    ]
    totals = stand_in.control("totals", {"spans": spans})["totals"]
    seen = time.monotonic()
    for way, total in zip(ways, totals, strict=True):
        way.taken += [seen - at for at in way.posted_at[len(way.taken) : int(total["counted"])]]
        if int(total["accepted"]) == len(way.posted_at) < events:
            _post(setting, way)


def _post(setting: Setting, way: _Way) -> None:
    event = {
        "tenantId": TENANT,
        "metric": METRIC,
        "customerRef": way.name,
        "quantity": 1,
        "idempotencyKey": f"{way.name}-{len(way.posted_at)}",
        "ts": _HOUR.isoformat(),
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{setting.stack.port}/v1/events/ingest",
        json.dumps({"events": [event]}).encode(),
        {"Content-Type": "application/json"},
    )
    way.posted_at.append(time.monotonic())
    with urllib.request.urlopen(request, timeout=30) as answer:
        if json.load(answer)["accepted"] != 1:
            raise RuntimeError("an event was not accepted")
