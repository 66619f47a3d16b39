"""A tenant connected to the stand-in for Stripe, which runs in a process of its own.

The stand-in is given its meter and customers in its store before it starts; what we know of them
we then read from it, as a sync would. Our customers are called as Stripe's are, so that nothing
but a mapping is needed between them.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy.orm import Session

from bench.events import METRIC
from bench.setting import TENANT, Setting
from bench.stack import free_port
from metering.catalog import mappings
from metering.counters import fold
from metering.database import unit_of_work
from metering.ledger import append
from metering.ledger.append import Entry
from metering.stripe import accounts, sync
from metering.stripe.driver import Driver
from metering.stripe.limits import Unlimited
from metering.stripe.sync import Place
from sandbox.standin import ACCOUNT, KEY
from sandbox.stripe.store import Store
from sandbox.stripe.world import World

HOUR = timedelta(hours=1)
LONGEST_START_SECONDS = 30.0
_METER = {
    "id": "mtr_bench",
    "object": "billing.meter",
    "created": 1_767_225_600,
    "updated": 1_767_225_600,
    "livemode": False,
    "display_name": METRIC,
    "event_name": METRIC,
    "event_time_window": None,
    "status": "active",
    "status_transitions": {"deactivated_at": None},
    "default_aggregation": {"formula": "sum"},
    "customer_mapping": {"event_payload_key": "stripe_customer_id", "type": "by_id"},
    "value_settings": {"event_payload_key": "value"},
}


@dataclass(frozen=True)
class StandIn:
    """Where the stand-in answers. lifted: our own limit lets everything through, too."""

    url: str
    lifted: bool

    @property
    def environment(self) -> Mapping[str, str]:
        """What workers are told of it, as if it were Stripe."""
        told = {"STRIPE_API_BASE": self.url, "STRIPE_TEST_KEY": KEY, "STRIPE_ACCOUNT": ACCOUNT}
        return told | ({"STRIPE_LIMIT_TEST": "1000000"} if self.lifted else {})

    def control(self, name: str, given: Any = None) -> Any:
        """Use one of its controls; what it says."""
        request = urllib.request.Request(f"{self.url}/_sandbox/{name}")
        if given is not None:
            request.data = json.dumps(given).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"the control {name} refused: {error.read()!r}") from None


def customer(number: int) -> str:
    """The name of a customer, ours and Stripe's."""
    return f"cus_{number:06d}"


@contextmanager
def standing_in(setting: Setting, *, customers: int, calm: bool) -> Iterator[StandIn]:
    """Run a stand-in with so many customers, and connect the tenant to it.

    calm: no lag, no limits, no latency; else all that the sandbox has by default.
    """
    store, port = setting.stack.folder / f"stripe-{time.monotonic_ns()}.sqlite", free_port()
    _furnish(store, customers)
    arguments = ["--port", str(port), "--store", str(store), *(["--calm"] if calm else [])]
    made = StandIn(f"http://127.0.0.1:{port}", lifted=calm)
    with setting.stack.standing_in(arguments):
        _wait_for(made)
        _connect(setting, made)
        yield made


def _furnish(store: Path, customers: int) -> None:
    world = World(store=Store(store))
    partition = world.partition(ACCOUNT, livemode=False)
    partition.put("billing.meter", dict(_METER))
    for number in range(customers):
        partition.put("customer", {"id": customer(number), "object": "customer"})
    world.close()


def _wait_for(made: StandIn) -> None:
    deadline = time.monotonic() + LONGEST_START_SECONDS
    while True:
        try:
            made.control("clock")
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > deadline:
                raise RuntimeError("the stand-in does not answer") from None
            time.sleep(0.05)
        else:
            return


def _connect(setting: Setting, made: StandIn) -> None:
    """A test tenant with one mapping from long ago, and what a sync would have noted."""
    setting.empty()
    now, place = datetime.now(UTC), Place(TENANT, "test", ACCOUNT)
    driver = Driver(None, KEY, limiter=Unlimited(), base_url=made.url, own_account=ACCOUNT)
    meters = list(driver.meters("test", ACCOUNT))
    wanted = {
        "metric": METRIC,
        "meter_event_name": METRIC,
        "is_shadow": True,
        "effective_from": now - timedelta(days=365),
    }
    with Session(setting.stack.engine) as session, unit_of_work(session):
        accounts.bind(session, TENANT, ACCOUNT, bound_by="bench", now=now)
        sync.note_meters(session, place, meters, now=now)
        mappings.create(session, TENANT, mappings.id_of(None), wanted, now=now)


def use(setting: Setting, *, customers: int, hours: range) -> None:
    """One event for each customer in each of these hours before now, counted: a segment each that
    Stripe has not heard of.

    Also what autovacuum does within a minute: the worker's statements were planned while the
    tables were empty, and the plans are kept until then.
    """
    now = datetime.now(UTC)
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    with Session(setting.stack.engine) as session:
        for back in hours:
            at = (this_hour - HOUR * back).isoformat()
            entries = [
                Entry(
                    idempotency_key=f"{customer(number)}-{back}",
                    metric=METRIC,
                    customer_ref=customer(number),
                    quantity=msgspec.Raw(str(number % 97 + 1).encode()),
                    occurred_at=at,
                )
                for number in range(customers)
            ]
            with unit_of_work(session):
                append.append(session, TENANT, entries, now=now)
        while True:
            with unit_of_work(session):
                folded = fold.fold(session, TENANT, now=now)
            if folded is None or not folded.taken:
                break
    setting.sql.execute("ANALYZE unsent, segments, counters, pushes, push_streams, stream_sources")
