"""What a period's days add to its cost, and what the days that remain are expected to add."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Context, Decimal
from functools import reduce

from metering.billing.days import LineDays, calendar_days
from metering.billing.projection import Line, is_early
from metering.catalog.period import Span
from pricing.flat import Flat
from pricing.numbers import EXACT, ZERO

# For guesses only, whose quotients need not end.
_WIDE = Context(prec=60)
_DAY = Decimal(86_400)
# Bars thinner than this many across a frame cannot be told apart: longer periods go by weeks.
MOST_BARS, WEEK, MONTH = 62, 7, 31


@dataclass(frozen=True)
class Pace:
    """What a day that remains is expected to add: low <= expected <= high, not rounded."""

    low: Decimal
    expected: Decimal
    high: Decimal


@dataclass(frozen=True)
class Bucket:
    """A day, or several where a period has very many.

    value:   what it added; None while it lies ahead.
    remains: how many days of it lie ahead, today's rest included.
    """

    start_at: datetime
    end_at: datetime
    value: Decimal | None
    remains: Decimal


@dataclass(frozen=True)
class Daily:
    """Amounts in minor units; `of_usage` has quantities instead.

    anyway:    what is due whatever is used: it is in no bucket.
    undated:   lines that do not grow by the day, such as seats; a whole month of them would stand
               on its first day. Where there are no others, they have buckets all the same.
    elsewhere: lines that have a billing period of their own.
    All of these and the buckets add up to what the lines cost.
    """

    buckets: Sequence[Bucket]
    step_days: int
    pace: Pace | None
    anyway: int = 0
    undated: Sequence[Line] = ()
    elsewhere: Sequence[Line] = ()


def of_cost(span: Span, lines: Sequence[LineDays], now: datetime) -> Daily | None:
    """The cost by day of lines of one currency; None where nothing is to be drawn."""
    shared = [each for each in lines if each.line.usage.span == span]
    fixed = [each.line for each in shared if _is_fixed(each.line)]
    usual = [each for each in shared if not _is_fixed(each.line)]
    has_growing = any(_is_growing(each) for each in usual)
    dated = [each for each in usual if _is_growing(each) or (each.days and not has_growing)]
    by_day, due = _added(dated)
    pace = _pace_of_cost(span, [each.line for each in dated], now)
    if pace is None and not any(by_day.values()):
        return None
    days = list(_days(span, by_day, now))
    step = _step(len(days))
    drawn = {each.line.usage.metric for each in dated}
    return Daily(
        buckets=_gathered(days, step),
        step_days=step,
        pace=pace,
        anyway=due + sum(line.amounts.current for line in fixed if line.amounts is not None),
        undated=[each.line for each in usual if each.line.usage.metric not in drawn],
        elsewhere=[each.line for each in lines if each.line.usage.span != span],
    )


def _is_growing(each: LineDays) -> bool:
    return bool(each.days) and each.line.usage.aggregation in ("sum", "count")


def _added(lines: Sequence[LineDays]) -> tuple[dict[datetime, Decimal], int]:
    """What each day added, and what the lines come to without any usage: the first day has it."""
    by_day: dict[datetime, Decimal] = {}
    anyway = 0
    for each in lines:
        price = each.line.price.price
        assert price is not None
        due = price.amount(ZERO)
        anyway += due
        for i, day in enumerate(each.days):
            own = Decimal((day.amount or 0) - (due if i == 0 else 0))
            by_day[day.start_at] = EXACT.add(by_day.get(day.start_at, ZERO), own)
    return by_day, anyway


def of_usage(each: LineDays, now: datetime) -> Daily | None:
    """One metric's own quantities by day, where nothing has a price."""
    if not each.days:
        return None
    by_day = {day.start_at: day.quantity for day in each.days}
    span, line = each.line.usage.span, each.line
    days = list(_days(span, by_day, now))
    step = _step(len(days))
    if step > 1 and line.usage.aggregation not in ("sum", "count"):
        return None
    pace = None
    if line.basis != "none" and not is_early(line, now):
        band, value = line.projected, line.usage.value
        rest = [EXACT.subtract(each, value) for each in (band.low, band.expected, band.high)]
        pace = _pace(span, rest[0], rest[1], rest[2], now)
    return Daily(_gathered(days, step), step, pace)


def _is_fixed(line: Line) -> bool:
    return line.price.price is not None and isinstance(line.price.price.model, Flat)


def _days(span: Span, by_day: dict[datetime, Decimal], now: datetime) -> Iterator[Bucket]:
    for day in calendar_days(span):
        is_begun = day.start_at <= now or day.start_at in by_day
        ahead = day.seconds - day.elapsed_seconds(now)
        yield Bucket(
            day.start_at,
            day.end_at,
            by_day.get(day.start_at, ZERO) if is_begun else None,
            _WIDE.divide(Decimal(str(ahead)), _DAY),
        )


def _step(days: int) -> int:
    if days <= MOST_BARS:
        return 1
    return WEEK if days <= MOST_BARS * WEEK else MONTH


def _gathered(days: Sequence[Bucket], step: int) -> list[Bucket]:
    if step == 1:
        return list(days)
    found = []
    for i in range(0, len(days), step):
        some = days[i : i + step]
        values = [day.value for day in some if day.value is not None]
        remains = reduce(EXACT.add, (day.remains for day in some))
        total = reduce(EXACT.add, values) if values else None
        found.append(Bucket(some[0].start_at, some[-1].end_at, total, remains))
    return found


def _pace_of_cost(span: Span, lines: Sequence[Line], now: datetime) -> Pace | None:
    if any(is_early(line, now) for line in lines):
        return None
    low = expected = high = 0
    for line in lines:
        if line.amounts is not None:
            low += line.amounts.low - line.amounts.current
            expected += line.amounts.projected - line.amounts.current
            high += line.amounts.high - line.amounts.current
    return _pace(span, Decimal(low), Decimal(expected), Decimal(high), now)


def _pace(span: Span, low: Decimal, expected: Decimal, high: Decimal, now: datetime) -> Pace | None:
    """Spread evenly over the time that remains; None where nothing more is to come."""
    left = timedelta(seconds=span.seconds - span.elapsed_seconds(now))
    if not left or not (low or expected or high):
        return None
    days = _WIDE.divide(Decimal(str(left.total_seconds())), _DAY)
    return Pace(_WIDE.divide(low, days), _WIDE.divide(expected, days), _WIDE.divide(high, days))
