"""Events as customers send them, built before any clock starts.

Most have no key, so that the server derives a time-prefixed one; every tenth has a random key of
its own, the worst that a sender can choose for the ledger's index. Instants ascend, near now.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from metering.ledger.append import Entry
from metering.ledger.identity import derive_key

METRIC = "api_calls"
META = '{"region":"eu-west-1","plan":"pro"}'
BATCH = 1000
OWN_KEY_EVERY = 10
STEP = timedelta(microseconds=20)


@dataclass(frozen=True)
class Series:
    """A run of events. step: between two of them; distinct instants make distinct derived keys.

    resources: how many different ones each customer's events name; 0 for none at all.
    """

    tenant: str
    start: datetime
    count: int
    customers: int
    seed: int
    step: timedelta = STEP
    resources: int = 0
    metric: str = METRIC


class Timeline:
    """Hands out stretches of time just before now that never overlap, so no event recurs."""

    def __init__(self) -> None:
        self._end = datetime.now(UTC) - timedelta(seconds=60)
        self._seed = 0

    def series(self, tenant: str, count: int, *, customers: int = 1000) -> Series:
        """The next `count` events."""
        start = max(self._end, datetime.now(UTC) - timedelta(seconds=60))
        self._end = start + STEP * count
        self._seed += 1
        return Series(tenant, start, count, customers, self._seed)


@dataclass(frozen=True)
class Event:
    """One event before it takes a form. key: None where the server is to derive it."""

    key: str | None
    customer: str
    quantity: str
    at: datetime
    resource: str | None


def generate(series: Series) -> Iterator[Event]:
    """The events of a series, the same every time."""
    chance = random.Random(series.seed)
    for i in range(series.count):
        yield Event(
            key=f"req_{chance.getrandbits(128):032x}" if i % OWN_KEY_EVERY == 0 else None,
            customer=f"cus_{chance.randrange(series.customers):06d}",
            quantity=f"{i % 97 + 1}.5",
            at=series.start + series.step * i,
            resource=f"user_{chance.randrange(series.resources)}" if series.resources else None,
        )


def bodies(series: Series, per_body: int = BATCH) -> list[bytes]:
    """The series as bodies of ingest requests."""
    texts = [_json(series, event) for event in generate(series)]
    return [
        f'{{"events":[{",".join(texts[i : i + per_body])}]}}'.encode()
        for i in range(0, len(texts), per_body)
    ]


def _json(series: Series, event: Event) -> str:
    key = f'"idempotencyKey":"{event.key}",' if event.key else ""
    at = event.at.replace(tzinfo=None).isoformat(timespec="microseconds")
    return (
        f'{{"tenantId":"{series.tenant}","metric":"{series.metric}",{key}'
        f'"customerRef":"{event.customer}","quantity":{event.quantity},"ts":"{at}Z","meta":{META}}}'
    )


def entries(series: Series) -> Iterator[list[Entry]]:
    """The series as `append` takes it, in batches."""
    batch: list[Entry] = []
    for event in generate(series):
        batch.append(_entry(series, event))
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _entry(series: Series, event: Event) -> Entry:
    return Entry(
        idempotency_key=stored_key(series, event),
        metric=series.metric,
        customer_ref=event.customer,
        quantity=msgspec.Raw(event.quantity.encode()),
        occurred_at=event.at.isoformat(),
        resource_id=event.resource,
        meta=msgspec.Raw(META.encode()),
    )


def stored_key(series: Series, event: Event) -> str:
    """The key under which the ledger holds the event."""
    return event.key or derive_key(
        series.tenant, series.metric, event.customer, event.resource, event.at
    )
