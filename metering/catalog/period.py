"""Billing periods: which span of time an instant is billed in.

Until a subscription says otherwise, the calendar month in UTC; the fold's statement draws the
same months.
"""

from dataclasses import dataclass
from datetime import UTC, datetime


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


def calendar_month(instant: datetime) -> Span:
    """The UTC month that holds the instant."""
    utc = instant.astimezone(UTC)
    start = datetime(utc.year, utc.month, 1, tzinfo=UTC)
    return Span(start, datetime(utc.year + utc.month // 12, utc.month % 12 + 1, 1, tzinfo=UTC))
