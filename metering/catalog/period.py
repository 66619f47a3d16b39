"""Billing periods: which span of time an instant is billed in.

A customer's metric has the periods of its subscription, as rows; between and beyond them it is
billed by the calendar month in UTC, clipped at the rows. `period_sql` draws the same for
statements.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


class Bounded(Protocol):
    """Anything that begins and ends, such as a row of `billing_periods`."""

    @property
    def start_at(self) -> datetime: ...

    @property
    def end_at(self) -> datetime: ...


@dataclass(frozen=True, order=True)
class Span:
    """A half-open stretch of time, `[start_at, end_at)`; both aware, UTC."""

    start_at: datetime
    end_at: datetime

    def elapsed_seconds(self, now: datetime) -> float:
        """How much of the span lies behind `now`; between 0 and its length."""
        return (min(max(now, self.start_at), self.end_at) - self.start_at).total_seconds()

    @property
    def seconds(self) -> float:
        return (self.end_at - self.start_at).total_seconds()


def hour_of(instant: datetime) -> datetime:
    """The start of the UTC hour that holds the instant."""
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def calendar_month(instant: datetime) -> Span:
    """The UTC month that holds the instant."""
    utc = instant.astimezone(UTC)
    start = datetime(utc.year, utc.month, 1, tzinfo=UTC)
    return Span(start, datetime(utc.year + utc.month // 12, utc.month % 12 + 1, 1, tzinfo=UTC))


def span_at(rows: Sequence[Bounded], instant: datetime) -> Span:
    """The billing period that holds the instant.

    rows: all billing periods of one customer's metric, in any order; no two overlap.
    """
    month = calendar_month(instant)
    start_at, end_at = month.start_at, month.end_at
    for row in rows:
        if row.start_at <= instant < row.end_at:
            return Span(row.start_at.astimezone(UTC), row.end_at.astimezone(UTC))
        if row.end_at <= instant:
            start_at = max(start_at, row.end_at)
        else:
            end_at = min(end_at, row.start_at)
    return Span(start_at.astimezone(UTC), end_at.astimezone(UTC))
