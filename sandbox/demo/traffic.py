"""Made-up usage, sent as an application would: in batches, each event under a key of its own."""

import random
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sandbox.demo import TENANT
from sandbox.demo.http import Api, Json
from sandbox.demo.plan import CUSTOMERS, metered

BATCH = 1000
LATE = timedelta(hours=3)


@dataclass(frozen=True)
class Sent:
    """What became of events. milliseconds: from the first request to the last answer."""

    accepted: int
    duplicates: int
    rejected: int
    milliseconds: float


class Traffic:
    """Remembers what it sent last, to send it again."""

    def __init__(self, web: Api) -> None:
        self._web = web
        self._lock = threading.Lock()
        self._last: list[Json] = []

    def send(self, count: int, now: datetime) -> str:
        """So many events of this instant. Returns: what became of them, for people."""
        return self._sent([_event(now) for _ in range(count)])

    def again(self) -> str:
        """The last ones, byte for byte: a client that never saw the answer."""
        with self._lock:
            last = list(self._last)
        if not last:
            return "Nothing has been sent yet from this page."
        return self._sent(last)

    def late(self, since: datetime, now: datetime) -> str:
        """One event that took hours to get here, of the current period. since: its beginning."""
        began = max(since, now - LATE)
        event = _event(began, CUSTOMERS[0].ref, "api_calls")
        return f"Dated {_ago(now - began)} ago. {self._sent([event])}"

    def too_late(self, ended: datetime) -> str:
        """One event of a billing period that has closed. ended: its end."""
        event = _event(ended - LATE, CUSTOMERS[0].ref, "api_calls")
        return (
            f"Dated {ended - LATE:%-d %B, %H:%M} UTC, of a period that has closed."
            f" {self._sent([event])} It is set aside, and its adjustment waits for a decision."
        )

    def _sent(self, events: Sequence[Json]) -> str:
        sent = post(self._web, events)
        with self._lock:
            self._last = list(events)
        counts = {name: getattr(sent, name) for name in ("accepted", "duplicates", "rejected")}
        told = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        plural = "event" if len(events) == 1 else "events"
        return f"{len(events):,} {plural} sent: {told}, in {sent.milliseconds:,.0f} ms."


def post(web: Api, events: Sequence[Json]) -> Sent:
    """Send events in batches of as many as a request may hold."""
    began = time.monotonic()
    counts = {"accepted": 0, "duplicates": 0, "rejected": 0}
    for batch in _batches(events):
        answer = web.post("/v1/events/ingest", {"events": batch})
        for name in counts:
            counts[name] += answer[name]
    return Sent(**counts, milliseconds=(time.monotonic() - began) * 1000)


def event(metric: str, ref: str, quantity: int, at: datetime, key: str, source: str) -> Json:
    """One event of the demo's tenant."""
    return {
        "tenantId": TENANT,
        "metric": metric,
        "customerRef": ref,
        "quantity": quantity,
        "ts": at.astimezone(UTC).isoformat(),
        "idempotencyKey": key,
        "source": source,
    }


def _ago(span: timedelta) -> str:
    minutes = int(span.total_seconds()) // 60
    return f"{minutes // 60} h" if minutes >= 60 else f"{minutes} min"


def _event(at: datetime, ref: str | None = None, metric: str | None = None) -> Json:
    customer = next((c for c in CUSTOMERS if c.ref == ref), None) or random.choice(CUSTOMERS)
    chosen = metered(metric or random.choice(customer.metrics))
    quantity = random.randint(1, chosen.most)
    key = f"demo-{secrets.token_hex(12)}"
    return event(chosen.metric, customer.ref, quantity, at, key, "demo")


def _batches(events: Sequence[Json]) -> Iterator[Sequence[Json]]:
    for first in range(0, len(events), BATCH):
        yield events[first : first + BATCH]
