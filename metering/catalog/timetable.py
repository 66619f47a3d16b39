"""A customer's metric's billing periods when its subscription says something new.

What is closed stays; what is open gives way to what is wanted now.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

from metering.catalog.models import BillingPeriod
from metering.catalog.period import Bounded, Span
from metering.catalog.schedules import PlannedPeriod


def is_fixed(row: BillingPeriod, now: datetime) -> bool:
    """Whether the period never changes any more.

    So it is from `closes_at` on, closed or not yet: what came since is set aside for it.
    """
    if row.closed_at is not None or row.final_at is not None:
        return True
    return row.closes_at is not None and row.closes_at <= now


def redrawn(
    rows: Sequence[BillingPeriod], wanted: Sequence[PlannedPeriod], *, now: datetime
) -> list[PlannedPeriod]:
    """The open periods as they are to be, in order.

    rows: all that there are now.  wanted: what the subscription items want, not overlapping; with
    none, there is no schedule from now on.
    Open periods that begin before the wanted ones are history, and end where those begin.
    """
    wanted = sorted(wanted)
    begin = wanted[0].start_at if wanted else now.replace(microsecond=0)
    found = [
        PlannedPeriod(row.start_at, min(row.end_at, begin), row.item_id, row.mode)
        for row in rows
        if not is_fixed(row, now) and row.start_at < begin
    ]
    fixed = [row for row in rows if is_fixed(row, now)]
    for period in wanted:
        for span in without(Span(period.start_at, period.end_at), fixed):
            found.append(PlannedPeriod(span.start_at, span.end_at, period.item_id, period.mode))
    return sorted(found)


def without(span: Span, taken: Sequence[Bounded]) -> Iterator[Span]:
    """What is left of the span beside these, which do not overlap each other."""
    start_at = span.start_at
    for other in sorted(taken, key=lambda one: one.start_at):
        if other.end_at <= start_at or other.start_at >= span.end_at:
            continue
        if start_at < other.start_at:
            yield Span(start_at, other.start_at)
        start_at = other.end_at
    if start_at < span.end_at:
        yield Span(start_at, span.end_at)
