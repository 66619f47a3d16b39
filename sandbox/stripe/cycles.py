"""Billing cycles: the bounds that an anchor and an interval make.

Bounds are counted from the anchor itself, never from the bound before: an anchor on the 31st is
clipped to the 28th in February and is back on the 31st in March. All in UTC, whole unix seconds.
Source: docs.stripe.com/billing/subscriptions/billing-cycle.
"""

import calendar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_SECONDS = {"day": 86400, "week": 7 * 86400}
_MONTHS = {"month": 1, "year": 12}


@dataclass(frozen=True)
class Anchor:
    """day: of the month, where the anchor itself had to be clipped (the 31st, set in April)."""

    at: int
    day: int | None = None


def bound(anchor: Anchor, interval: str, count: int, n: int) -> int:
    """The nth bound after the anchor; before it for a negative n, the anchor itself for 0."""
    if interval in _SECONDS:
        return anchor.at + n * count * _SECONDS[interval]
    at = datetime.fromtimestamp(anchor.at, UTC)
    month = at.year * 12 + at.month - 1 + n * count * _MONTHS[interval]
    return int(_clipped(at, month, anchor.day or at.day).timestamp())


def period(anchor: Anchor, interval: str, count: int, at: int) -> tuple[int, int]:
    """The period that holds the instant: from its start on, before its end."""
    n = _about(anchor, interval, count, at)
    while bound(anchor, interval, count, n) > at:
        n -= 1
    while bound(anchor, interval, count, n + 1) <= at:
        n += 1
    return bound(anchor, interval, count, n), bound(anchor, interval, count, n + 1)


def configured(
    start: int,
    *,
    day_of_month: int,
    month: int | None = None,
    hour: int | None = None,
    minute: int | None = None,
    second: int | None = None,
) -> Anchor:
    """The anchor of a `billing_cycle_anchor_config`: its first moment from the start on; what it
    does not say of the time of day is the start's."""
    began = datetime.fromtimestamp(start, UTC)
    clock = began.replace(
        hour=began.hour if hour is None else hour,
        minute=began.minute if minute is None else minute,
        second=began.second if second is None else second,
    )
    first = began.year * 12 + began.month - 1
    months = (at for at in range(first, first + 13) if month in (None, at % 12 + 1))
    instants = (int(_clipped(clock, at, day_of_month).timestamp()) for at in months)
    return Anchor(next(each for each in instants if each >= start), day_of_month)


def within_one(start: int, interval: str, count: int) -> int:
    """The latest anchor that a subscription begun at `start` may have: one interval on."""
    return bound(Anchor(start), interval, count, 1)


def _clipped(clock: datetime, month: int, day: int) -> datetime:
    year, of_year = divmod(month, 12)
    last = calendar.monthrange(year, of_year + 1)[1]
    first = clock.replace(year=year, month=of_year + 1, day=1)
    return first + timedelta(days=min(day, last) - 1)


def _about(anchor: Anchor, interval: str, count: int, at: int) -> int:
    seconds = _SECONDS.get(interval) or _MONTHS[interval] * 2629746
    return (at - anchor.at) // (seconds * count)
