"""Made-up usage, sent as an application would: in batches, each event under a key of its own."""

import random
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sandbox.demo import TENANT
from sandbox.demo.http import Api, Json
from sandbox.demo.plan import CUSTOMERS, metered

BATCH = 1000
LATE = timedelta(hours=3)


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

    def _sent(self, events: Sequence[Json]) -> str:
        began = time.monotonic()
        counts = {"accepted": 0, "duplicates": 0, "rejected": 0}
        for batch in _batches(events):
            answer = self._web.post("/v1/events/ingest", {"events": batch})
            for name in counts:
                counts[name] += answer[name]
        seconds = time.monotonic() - began
        with self._lock:
            self._last = list(events)
        told = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        plural = "event" if len(events) == 1 else "events"
        return f"{len(events):,} {plural} sent: {told}, in {seconds * 1000:,.0f} ms."


def _ago(span: timedelta) -> str:
    minutes = int(span.total_seconds()) // 60
    return f"{minutes // 60} h" if minutes >= 60 else f"{minutes} min"


def _event(at: datetime, ref: str | None = None, metric: str | None = None) -> dict[str, Any]:
    customer = next((c for c in CUSTOMERS if c.ref == ref), None) or random.choice(CUSTOMERS)
    chosen = metered(metric or random.choice(customer.metrics))
    return {
        "tenantId": TENANT,
        "metric": chosen.metric,
        "customerRef": customer.ref,
        "quantity": random.randint(1, chosen.most),
        "ts": at.astimezone(UTC).isoformat(),
        "idempotencyKey": f"demo-{secrets.token_hex(12)}",
        "source": "demo",
    }


def _batches(events: Sequence[Json]) -> Iterator[Sequence[Json]]:
    for first in range(0, len(events), BATCH):
        yield events[first : first + BATCH]
