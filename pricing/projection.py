"""Where a period's usage is heading, from what was used so far.

Only for what accumulates (sum, count); a maximum or a gauge does not grow with time.

Where weeks of history are known, each hour of the week counts for what it usually brings; else
time passes evenly. Instants are whole unix seconds here, and a week is 168 UTC hours from the
epoch on: which of them is called Monday does not matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Context, Decimal

from pricing.money import quantized
from pricing.numbers import MAX_DECIMALS

# A quotient need not end: far more digits than any quantity has, within what `quantized` takes.
_WIDE = Context(prec=100)

HOUR, HOURS_OF_WEEK = 3600, 168
WEEK = HOUR * HOURS_OF_WEEK


@dataclass(frozen=True, slots=True)
class Week:
    """One past week, laid over the period hour of the week by hour of the week.

    behind, ahead: what the period's elapsed and remaining time would bring if each of its weeks
                   were like this one.
    whole:         what the week itself brought.
    """

    behind: Decimal
    ahead: Decimal
    whole: Decimal


@dataclass(frozen=True, slots=True)
class Band:
    """What the period's usage is expected to be: low <= expected <= high."""

    low: Decimal
    expected: Decimal
    high: Decimal


def exactly(quantity: Decimal) -> Band:
    """Nothing is left to guess: the period is over, or the reading does not grow with time."""
    return Band(quantity, quantity, quantity)


def hours_of_week(start: int, end: int) -> list[int]:
    """How many seconds of `[start, end)` lie in each of the week's 168 hours."""
    weeks, rest = divmod(max(0, end - start), WEEK)
    seconds = [weeks * HOUR] * HOURS_OF_WEEK
    at = start
    while rest > 0:
        step = min(rest, HOUR - at % HOUR)
        seconds[at // HOUR % HOURS_OF_WEEK] += step
        at, rest = at + step, rest - step
    return seconds


def by_weeks(quantity: Decimal, weeks: Sequence[Week]) -> Band:
    """Add to the usage so far what the rest of the period usually brings, at the period's pace.

    weeks: at least one, and something was used in them.
    expected: the average past week over the remaining hours, times the pace: the usage so far
              against what those hours usually bring, with one usual day added to both sides, so
              that the first minutes of a period decide nothing.
    low:      the quietest week, at the pace or as usual, whichever is less.
    high:     the busiest week, at the pace or as usual, whichever is more.
    """
    count = Decimal(len(weeks))
    behind, ahead = _sum([w.behind for w in weeks]), _sum([w.ahead for w in weeks])
    day = _WIDE.divide(_sum([week.whole for week in weeks]), Decimal(7))
    used = _WIDE.multiply(quantity, count)
    pace = _WIDE.divide(_WIDE.add(used, day), _WIDE.add(behind, day))
    least = _WIDE.multiply(min(week.ahead for week in weeks), min(pace, Decimal(1)))
    most = _WIDE.multiply(max(week.ahead for week in weeks), max(pace, Decimal(1)))
    return Band(
        _plus(quantity, least),
        _plus(quantity, _WIDE.divide(_WIDE.multiply(ahead, pace), count)),
        _plus(quantity, most),
    )


def evenly(quantity: Decimal, elapsed_seconds: Decimal, period_seconds: Decimal) -> Band:
    """Without history: the usage so far, stretched evenly over the whole period.

    The band is the expected rest more or less by the share of the period that remains: at first
    from next to none of it to twice as much, at the period's end nothing.
    """
    expected = extrapolate(quantity, elapsed_seconds, period_seconds)
    rest = _WIDE.subtract(expected, quantity)
    remains = _WIDE.subtract(Decimal(1), _WIDE.divide(elapsed_seconds, period_seconds))
    swing = _WIDE.multiply(rest, remains)
    return Band(
        _plus(quantity, _WIDE.subtract(rest, swing)),
        expected,
        _plus(quantity, _WIDE.add(rest, swing)),
    )


def extrapolate(quantity: Decimal, elapsed_seconds: Decimal, period_seconds: Decimal) -> Decimal:
    """Stretch the usage so far evenly over the whole period.

    elapsed_seconds: of the period, 0 <= elapsed <= period_seconds; at 0 nothing is known and the
                     quantity itself is returned.
    """
    if not 0 <= elapsed_seconds <= period_seconds:
        raise ValueError("elapsed time must lie within the period")
    if elapsed_seconds == 0:
        return quantity
    rest = _WIDE.multiply(quantity, _WIDE.subtract(period_seconds, elapsed_seconds))
    return _plus(quantity, _WIDE.divide(rest, elapsed_seconds))


def _sum(values: Sequence[Decimal]) -> Decimal:
    total = Decimal(0)
    for value in values:
        total = _WIDE.add(total, value)
    return total


def _plus(quantity: Decimal, rest: Decimal) -> Decimal:
    """The usage so far and a rest, rounded to what a quantity may have on the wire; with nothing
    left it is the quantity, to the digit."""
    rounded = quantized(rest, MAX_DECIMALS)
    return _WIDE.add(quantity, rounded) if rounded else quantity
