"""The events of each meter and customer by their timestamps, and what they come to.

Two readings: `visible`, what the summaries show, and `accepted`, what an invoice counts when it is
finalized: also what still waits, less what will be rejected and what has been cancelled.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from decimal import Context, Decimal
from typing import NamedTuple

from sandbox.stripe.core import Json, Partition

_EXACT = Context(prec=60)
_WINDOWS = {"hour": 3600, "day": 86400}


class Entry(NamedTuple):
    timestamp: int
    place: int  # order of receipt; unique
    value: Decimal
    record: Json


class Streams:
    """One partition's."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], list[Entry]] = defaultdict(list)
        self.identifiers: dict[str, Json] = {}
        self.tie = "received"  # as the setting `last_tie` says

    def add(self, record: Json) -> None:
        self.identifiers[record["identifier"]] = record
        if record["meter"] is not None and not record.get("invalid"):
            stream = self._entries[record["meter"], record["customer"]]
            value = Decimal(record["value"])
            insort(stream, Entry(record["timestamp"], record["place"], value, record))

    def between(self, meter: str, customer: str, start: int, end: int) -> Sequence[Entry]:
        """Events from `start` on, before `end`, by timestamp and receipt."""
        stream = self._entries.get((meter, customer), [])
        first = bisect_left(stream, (start, -1))
        return stream[first : bisect_left(stream, (end, -1))]

    def customers(self, meter: str) -> list[str]:
        return [customer for each, customer in self._entries if each == meter]

    def all_of(self, meter: str, customer: str) -> Sequence[Entry]:
        return self._entries.get((meter, customer), [])


def of(partition: Partition) -> Streams:
    found = partition.derived.get("streams")
    if not isinstance(found, Streams):
        found = partition.derived["streams"] = Streams()
    return found


def visible(record: Json) -> bool:
    return bool(record["state"] == "counted" and record["cancel"] != "complete")


def total(
    meter: Json, entries: Iterable[Entry], counts: Callable[[Json], bool], *, tie: str = "received"
) -> Decimal:
    """What the entries that count come to under the meter's formula; 0 of none."""
    chosen = [each for each in entries if counts(each.record)]
    window = _WINDOWS.get(meter.get("event_time_window") or "")
    if window is not None:
        chosen = _last_received(chosen, window)
    formula = meter["default_aggregation"]["formula"]
    if formula == "count":
        return Decimal(len(chosen))
    if formula == "last":
        return _last(chosen, tie)
    sum = Decimal(0)
    for each in chosen:
        sum = _EXACT.add(sum, each.value)
    return sum


def _last_received(entries: Sequence[Entry], window: int) -> list[Entry]:
    """Of each window only the event received last: it overwrites the others."""
    kept: dict[int, Entry] = {}
    for each in entries:
        slot = each.timestamp // window
        if slot not in kept or kept[slot].place < each.place:
            kept[slot] = each
    return list(kept.values())


def _last(entries: Sequence[Entry], tie: str) -> Decimal:
    if not entries:
        return Decimal(0)
    sign = 1 if tie == "received" else -1
    return max(entries, key=lambda each: (each.timestamp, sign * each.place)).value
