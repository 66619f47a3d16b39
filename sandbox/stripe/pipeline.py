"""The way of a meter event after its acceptance: it waits, is validated, is counted or rejected.

A record is a JSON object of the kind `_meter_event`:
    id, identifier, event_name, meter, customer, value, timestamp, payload;  received_at: clock
    place: order of receipt;  due: seconds of the world's own clock;  key: idempotency key
    state: "accepted" | "counted" | "rejected";  code, message: why rejected
    cancel: None | "pending" | "complete";  doomed: code of a planted rejection, or None
"""

import heapq
import random
import secrets
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from sandbox.stripe import reports, streams
from sandbox.stripe.core import Json, Partition, StripeError

KIND = "_meter_event"
_Place = tuple[str, bool]


class Pipeline:
    """What all partitions' meter events go through."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self._waiting: list[tuple[float, int, _Place, str]] = []
        self._place = 0
        self._sessions: dict[str, tuple[str, bool, int]] = {}
        self._random = random.Random(4)

    def load(self) -> None:
        """Take up what the store held."""
        for partition in self._world.partitions():
            for record in partition.of(KIND).values():
                self._place = max(self._place, record["place"] + 1)
                streams.of(partition).add(record)
                if record["state"] == "accepted" or record["cancel"] == "pending":
                    self._wait(partition, record)

    def accept(self, partition: Partition, record: Json) -> None:
        """Take a new record in; `meter` is None where there is none of the event's name."""
        record |= {"id": f"mevt_{secrets.token_hex(12)}", "place": self._place}
        record |= {"state": "accepted", "cancel": None, "code": None, "message": None}
        record["due"] = self._due()
        self._place += 1
        streams.of(partition).tie = self._world.settings.last_tie
        partition.put(KIND, record)
        streams.of(partition).add(record)
        self._wait(partition, record)

    def cancel(self, partition: Partition, record: Json) -> None:
        record["cancel"], record["due"] = "pending", self._due()
        partition.put(KIND, record)
        self._wait(partition, record)

    def tick(self) -> None:
        """Validate what has waited long enough; nothing while the lag goes by hand."""
        if self._waiting and self._world.settings.lag_seconds is not None:
            now, ready = self._world.clock(), []
            while self._waiting and self._waiting[0][0] <= now:
                ready.append(heapq.heappop(self._waiting))
            self._validate(ready)

    def settle(self, count: int | None = None) -> None:
        """Validate the longest accepted ones, all by default, whatever they have waited."""
        ordered = sorted(self._waiting, key=lambda each: each[1])
        count = len(ordered) if count is None else count
        self._waiting = ordered[count:]
        heapq.heapify(self._waiting)
        self._validate(ordered[:count])

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def open_session(self, partition: Partition, expires: int) -> str:
        token = f"bsk_{secrets.token_urlsafe(24)}"
        self._sessions[token] = (partition.account, partition.livemode, expires)
        return token

    def session_owner(self, token: str | None) -> _Place:
        """Raises: StripeError (401) for no session, or one that has ended."""
        session = self._sessions.get(token or "")
        if session is None or session[2] <= self._world.now():
            code = "billing_meter_event_session_expired"
            raise StripeError(401, "The meter event session has expired.", code=code)
        return session[0], session[1]

    def _due(self) -> float:
        lag = self._world.settings.lag_seconds
        return float(self._world.clock()) + (self._random.uniform(*lag) if lag else 0.0)

    def _wait(self, partition: Partition, record: Json) -> None:
        place = (partition.account, partition.livemode)
        heapq.heappush(self._waiting, (record["due"], record["place"], place, record["id"]))

    def _validate(self, ready: Iterable[tuple[float, int, _Place, str]]) -> None:
        rejected: dict[_Place, list[Json]] = defaultdict(list)
        for _, _, place, id in ready:
            partition = self._world.partition(*place)
            record = partition.of(KIND)[id]
            if record["state"] == "accepted":
                found = fault_of(partition, record)
                record["state"] = "rejected" if found else "counted"
                if found:
                    record["code"], record["message"] = found
                    rejected[place].append(record)
            if record["cancel"] == "pending":
                record["cancel"] = "complete"
            partition.put(KIND, record)
        for place, records in rejected.items():
            reports.tell(self._world, self._world.partition(*place), records)


def fault_of(partition: Partition, record: Json) -> tuple[str, str] | None:
    """Why an accepted event is not counted, if it is not: code and message."""
    if record.get("doomed"):
        return record["doomed"]["code"], record["doomed"]["message"]
    if record.get("invalid"):
        return record["invalid"]["code"], record["invalid"]["message"]
    meter = partition.of("billing.meter").get(record["meter"] or "")
    if meter is None:
        return "no_meter", f"No meter found for the event name {record['event_name']}."
    if meter["status"] != "active":
        return "archived_meter", f"The meter {meter['id']} is archived."
    customer = partition.of("customer").get(record["customer"])
    if customer is None or customer.get("deleted"):
        return "meter_event_customer_not_found", f"No such customer: '{record['customer']}'"
    return None
