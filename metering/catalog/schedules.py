"""The billing periods of a subscription item, reckoned as Stripe reckons them.

Only the current period is told by Stripe; those before and after it follow from the anchor. All
instants are UTC, whatever zone the subscription was made in: so are Stripe's.
"""

from calendar import monthrange
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Protocol

# Periods beyond the current one: usage may lie ahead of now, and renewals may be told late.
AHEAD = 2
_DAYS = {"day": timedelta(days=1), "week": timedelta(weeks=1)}
_MONTHS = {"month": 1, "year": 12}


class Scheduled(Protocol):
    """What is read of a subscription item; see `catalog.mirror.SubscriptionItem`."""

    item_id: str
    mode: str
    interval: str
    interval_count: int
    anchor_at: datetime
    current_start: datetime
    current_end: datetime
    started_at: datetime
    ended_at: datetime | None
    cancel_at: datetime | None
    trial_end: datetime | None


@dataclass(frozen=True, order=True)
class PlannedPeriod:
    """A period `[start_at, end_at)` as the item wants it."""

    start_at: datetime
    end_at: datetime
    item_id: str
    mode: str


def planned(item: Scheduled) -> list[PlannedPeriod]:
    """The item's periods in order, from its start to two beyond the current one.

    They tile time without a gap. A trial is a period. What the item ends by (`ended_at`) ends the
    period of then, and none begins once it ends or will be cancelled. A pause changes nothing: the
    cycle goes on.
    Raises: ValueError where the interval is none of Stripe's.
    """
    current = (item.current_start, item.current_end)
    spans = [*pairwise([*_before(item), item.current_start]), current]
    spans += pairwise([item.current_end, *_beyond(item)])
    ended = item.ended_at
    stop = min((at for at in (ended, item.cancel_at) if at is not None), default=None)
    found = []
    for span in spans:
        start_at, end_at = span
        # Stripe goes on naming the whole of a period that it will cut, until it does.
        until = ended if span == current else stop
        if until is not None:
            end_at = min(end_at, until)
        if start_at < end_at:
            found.append(PlannedPeriod(start_at, end_at, item.item_id, item.mode))
    return found


def _before(item: Scheduled) -> list[datetime]:
    """Starts of the periods before the current one."""
    first = item.started_at
    if first >= item.current_start:
        return []
    starts = [first]
    if item.trial_end is not None and first < item.trial_end < item.current_start:
        starts.append(item.trial_end)
    number = _number_after(item, starts[-1])
    while (at := _boundary(item, number)) < item.current_start:
        starts.append(at)
        number += 1
    return starts


def _beyond(item: Scheduled) -> list[datetime]:
    """Ends of the periods after the current one."""
    number = _number_after(item, item.current_end)
    return [_boundary(item, number + i) for i in range(AHEAD)]


def _number_after(item: Scheduled, instant: datetime) -> int:
    """The number, counted from the anchor, of the first boundary after the instant."""
    if item.interval in _DAYS:
        return (instant - item.anchor_at) // (_DAYS[item.interval] * item.interval_count) + 1
    anchor = item.anchor_at
    months = (instant.year - anchor.year) * 12 + instant.month - anchor.month
    number = months // _step_in_months(item)
    # The month is that of the boundary at most: it may lie on either side of the instant.
    return number if _boundary(item, number) > instant else number + 1


def _boundary(item: Scheduled, number: int) -> datetime:
    """A boundary by its number: `number` times the interval after the anchor."""
    anchor = item.anchor_at
    if item.interval in _DAYS:
        return anchor + number * item.interval_count * _DAYS[item.interval]
    month = anchor.year * 12 + anchor.month - 1 + number * _step_in_months(item)
    year, month = month // 12, month % 12 + 1
    # A month that is too short ends a period on its last day; the next one is not shortened.
    return anchor.replace(year=year, month=month, day=min(_day(item), monthrange(year, month)[1]))


def _day(item: Scheduled) -> int:
    """The day of the month on which periods begin, where the month has it.

    An anchor that was asked to be on the 31st is itself put on the 28th in a February; then it
    shows in the current period only.
    """
    anchor = item.anchor_at
    if anchor.day < monthrange(anchor.year, anchor.month)[1]:
        return anchor.day
    later = [at for at in (item.current_start, item.current_end) if at > anchor]
    return max([anchor.day, *(at.day for at in later if at.time() == anchor.time())])


def _step_in_months(item: Scheduled) -> int:
    if item.interval not in _MONTHS:
        raise ValueError(f"no billing interval: {item.interval!r}")
    return _MONTHS[item.interval] * item.interval_count
