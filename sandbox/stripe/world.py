"""The stand-in without a socket: all accounts, the clock, and one way in, `handle`.

Every member that changes takes the lock; a request's wait (`latency_seconds`) is spent outside of
it, so that calls overlap as they do at Stripe. Instants are unix seconds of the stand-in's clock,
which is the clock it was given plus an offset; the lag of the meters runs on the clock it was
given, so that advancing the stand-in's clock hurries nothing.
"""

import contextlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.stripe import events as snapshots
from sandbox.stripe.core import ON_TIME, Json, Partition
from sandbox.stripe.desk import Desk
from sandbox.stripe.faults import Faults
from sandbox.stripe.http import Answer
from sandbox.stripe.keys import Keys
from sandbox.stripe.limits import Limits
from sandbox.stripe.pipeline import Pipeline
from sandbox.stripe.settings import Settings
from sandbox.stripe.store import Address, Store

ACCOUNT = "acct_standin0000001"

Observer = Callable[[str, str, Json, int, Json], None]


@dataclass
class Kept(Partition):
    """A partition that notes what changed, for the store."""

    changed: dict[Address, Json | None] = field(default_factory=dict)

    def put(self, kind: str, obj: Json) -> Json:
        self.changed[Address(self.account, self.livemode, kind, obj["id"])] = obj
        return super().put(kind, obj)

    def remove(self, kind: str, id: str) -> None:
        self.changed[Address(self.account, self.livemode, kind, id)] = None
        super().remove(kind, id)


class World:
    """clock: seconds, the wall's by default; one that is given is moved by hand, and then the lag
    waits for `settle()` and nothing sleeps. calm: no lag, no limits, no latency.
    webhook_secret: of every endpoint that will be made, so that whoever receives its webhooks can
    know it before; None: each has its own."""

    def __init__(
        self,
        clock: Callable[[], float] | None = None,
        store: Store | None = None,
        calm: bool = False,
        *,
        clock_file: Path | None = None,
        webhook_secret: str | None = None,
    ) -> None:
        self.lock = threading.RLock()
        self.by_hand, self._calm = clock is not None, calm
        self.clock = clock or time.time
        self.settings = Settings.calm() if calm else Settings.usual(by_hand=self.by_hand)
        self.faults = Faults(self.clock)
        self.limits = Limits(self.clock)
        self.account = ACCOUNT
        self.keys = Keys(ACCOUNT)
        self.connected: set[str] = set()
        self.observers: list[Observer] = []
        self.offset_seconds = 0
        self._clock_file = clock_file
        self._webhook_secret = webhook_secret
        self._store = store
        self._partitions: dict[tuple[str, bool], Kept] = {}
        self._changed: dict[Address, Json | None] = {}
        self._at: int | None = None
        self._ran_until = 0
        self.origin: Json | None = None  # what an event made now tells of its request
        self.meters = Pipeline(self)
        self._desk = Desk(self)
        if store is not None:
            self._load(store)
        self._tell_clock()

    # Time

    def now(self) -> int:
        """The stand-in's instant, or that of the work that falls due while it is done."""
        return self._at if self._at is not None else int(self.clock()) + self.offset_seconds

    @contextlib.contextmanager
    def at(self, instant: int) -> Iterator[None]:
        """Have `now()` say the instant at which a piece of work fell due."""
        with self.lock:
            before, self._at = self._at, instant
            try:
                yield
            finally:
                self._at = before

    def advance_to(self, instant: int) -> None:
        """Move the clock forward through everything that falls due.

        Raises: ValueError for an instant in the past.
        """
        with self.lock:
            seconds = instant - self.now()
            if seconds < 0:
                raise ValueError("The clock only goes forward.")
            self.offset_seconds += seconds
            self.remember()
            self._tell_clock()
            self.tick()

    def tick(self) -> None:
        """Do what has fallen due: the meters' lag, and the work of the clock."""
        with self.lock:
            self.meters.tick()
            now = self.now()
            if now != self._ran_until and self._at is None:
                self._ran_until = now
                for partition in list(self._partitions.values()):
                    for work in ON_TIME:
                        work(self, partition, now)
            self.flush()

    def settle(self, count: int | None = None) -> None:
        """Count (or reject) what was accepted, the oldest first, whatever the lag."""
        with self.lock:
            self.meters.settle(count)
            self.flush()

    def _tell_clock(self) -> None:
        if self._clock_file is not None:
            beside = self._clock_file.with_name(f".{self._clock_file.name}.{os.getpid()}")
            beside.write_text(json.dumps({"offset_seconds": self.offset_seconds}))
            beside.replace(self._clock_file)

    # Accounts

    def partition(self, account: str = ACCOUNT, livemode: bool = False) -> Partition:
        with self.lock:
            found = self._partitions.get((account, livemode))
            if found is None:
                found = self._partitions[account, livemode] = Kept(account, livemode)
            return found

    def partitions(self) -> list[Partition]:
        with self.lock:
            return list(self._partitions.values())

    def add_key(self, key: str, account: str = ACCOUNT, *, livemode: bool = False) -> None:
        with self.lock:
            self.keys.add(key, account, livemode)
            self.remember()

    def revoke_key(self, key: str) -> None:
        with self.lock:
            self.keys.revoke(key)
            self.remember()

    def connect(self, account: str) -> None:
        """Let the platform's keys act for the account, by `Stripe-Account`."""
        with self.lock:
            self.connected.add(account)
            self.remember()

    # Events

    def new_webhook_secret(self) -> str:
        return self._webhook_secret or f"whsec_{secrets.token_hex(16)}"

    def emit(self, partition: Partition, type: str, obj: Json, **data: Any) -> Json:
        """Make a v1 event of a snapshot of the object; `data`: such as previous_attributes."""
        with self.lock:
            return snapshots.emit(self, partition, type, obj, data)

    def notify(self, partition: Partition, type: str, related: Json | None, data: Json) -> Json:
        """Make a v2 event, whose webhook is thin. related: its `related_object`."""
        with self.lock:
            return snapshots.notify(self, partition, type, related, data)

    def handle(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Answer:
        """Answer one request as Stripe would. target: the path with its query.

        Raises: NoAnswer where a fault ends the connection instead.
        """
        return self._desk.handle(method, target, headers, body)

    # The store

    def remember(self) -> None:
        """Keep what belongs to no partition: the clock's offset, the keys and the settings."""
        kept = {"offset_seconds": self.offset_seconds, "connected": sorted(self.connected)}
        kept |= {"keys": self.keys.to_json(), "settings": self.settings.to_json()}
        self._changed[Address("", False, "_world", "world")] = kept
        self.flush()

    def flush(self) -> None:
        """Write what changed; nothing is answered before."""
        changed = self._changed
        self._changed = {}
        for partition in self._partitions.values():
            if partition.changed:
                changed |= partition.changed
                partition.changed = {}
        if changed and self._store is not None:
            self._store.write(changed)

    def _load(self, store: Store) -> None:
        for address, obj in store.load():
            if address.kind == "_world":
                self.offset_seconds = obj["offset_seconds"]
                self.connected = set(obj["connected"])
                self.keys.load(obj["keys"])
                if not self._calm:
                    self.settings.load(obj["settings"])
            else:
                partition = self.partition(address.account, address.livemode)
                partition.of(address.kind)[address.id] = obj
        self.meters.load()

    def tick_if_due(self) -> None:
        """What every request begins with."""
        self.meters.tick()
        if int(self.clock()) + self.offset_seconds != self._ran_until:
            self.tick()

    def close(self) -> None:
        """Close the store; nothing is handled after it."""
        with self.lock:
            self.flush()
            if self._store is not None:
                self._store.close()
