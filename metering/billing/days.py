"""What each day of a period added to its usage and to its cost.

A day's amount is the cost up to the day's end less the cost up to the day before's, by the one
pricing function: days in a cheaper tier cost less, a volume price may make a day cost less than
nothing, and together they are the line's amount to the unit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import reduce
from typing import Any

from sqlalchemy.orm import Session

from metering.billing import amounts
from metering.billing.projection import Line, Projection
from metering.catalog.period import Span
from metering.counters.carry import LEVEL
from pricing.numbers import EXACT, ZERO

_DAY = timedelta(days=1)
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True)
class DayUse:
    """One UTC day of a line's period, clipped at the period's ends.

    quantity: the day's own: its sum, count or greatest, 0 without usage; of `last`, the level that
              stands at the day's end, whenever it was reported.
    amount:   minor units, what the day added to the cost; None without a price. A flat fee is the
              first day's.
    """

    start_at: datetime
    end_at: datetime
    quantity: Decimal
    amount: int | None


@dataclass(frozen=True)
class LineDays:
    """The days of a line, the first first; none of `unique`, whose days do not add up."""

    line: Line
    days: Sequence[DayUse]


@dataclass
class Used:
    """What is counted of one metric. carried: the level with which its period began."""

    carried: Decimal = ZERO
    by_day: dict[datetime, Decimal] = field(default_factory=dict)


def of_projection(
    session: Session, tenant_id: str, customer_ref: str, projected: Projection, *, now: datetime
) -> list[LineDays]:
    """The days of each line so far: to the one that holds `now` or the last with usage.

    Usage may be counted after it was projected: what is beyond the line's value is left out, so
    that the days always add up to what the line says.
    """
    adding_up = [line for line in projected.lines if line.usage.aggregation != "unique"]
    used = _used(session, tenant_id, customer_ref, adding_up)
    return [
        LineDays(line, spread(line, used[name], now) if (name := line.usage.metric) in used else ())
        for line in projected.lines
    ]


def calendar_days(span: Span) -> Iterator[Span]:
    """The UTC days that the span touches, clipped at its ends."""
    start_at = span.start_at
    while start_at < span.end_at:
        end_at = min(_midnight(start_at) + _DAY, span.end_at)
        yield Span(start_at, end_at)
        start_at = end_at


def spread(line: Line, used: Used, now: datetime) -> list[DayUse]:
    """The line's value and cost, day by day."""
    span = line.usage.span
    latest = min(max(now, span.start_at, *used.by_day), span.end_at - _INSTANT)
    until = min(_midnight(latest) + _DAY, span.end_at)
    spans = list(calendar_days(Span(span.start_at, until)))
    days = []
    reached, cost = used.carried if line.usage.aggregation == "last" else ZERO, 0
    most = _most(line, used)
    at: Decimal | None = None
    for day in spans:
        own = used.by_day.get(_midnight(day.start_at))
        before = reached
        reached = _reached(line, before, own, most)
        if day is spans[-1]:
            reached = line.usage.value
        amount: int | None = None
        if line.price.price is not None:
            # A day without usage costs what the one before it did.
            total = cost if reached == at else amounts.cost(line.price.price, reached)
            amount, cost, at = total - cost, total, reached
        days.append(
            DayUse(day.start_at, day.end_at, _own(line, before, reached, own, most), amount)
        )
    return days


def _most(line: Line, used: Used) -> Decimal | None:
    """What a day's reading is cut to; None: to nothing.

    Days may pass the line's value on the way, where an adjustment takes away from it later; days
    that do not come to it hold what was counted after the line was read. An adjustment of a
    maximum is no day's: it is added at the end.
    """
    value = line.usage.value
    if line.usage.aggregation == "max":
        return EXACT.subtract(value, line.usage.delta)
    return None if reduce(EXACT.add, used.by_day.values(), ZERO) == value else value


def _reached(line: Line, before: Decimal, own: Decimal | None, most: Decimal | None) -> Decimal:
    """The reading at the day's end."""
    if own is None:
        return before
    match line.usage.aggregation:
        case "last":
            return own
        case "max":
            return _cut(max(before, own), most)
        case _:
            return _cut(EXACT.add(before, own), most)


def _cut(reading: Decimal, most: Decimal | None) -> Decimal:
    return reading if most is None else min(reading, most)


def _own(
    line: Line, before: Decimal, reached: Decimal, own: Decimal | None, most: Decimal | None
) -> Decimal:
    match line.usage.aggregation:
        case "last":
            return reached
        case "max":
            return _cut(own or ZERO, most)
        case _:
            return EXACT.subtract(reached, before)


def _midnight(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _used(
    session: Session, tenant_id: str, customer_ref: str, lines: Sequence[Line]
) -> dict[str, Used]:
    """By metric; one statement for all of them."""
    used = {line.usage.metric: Used() for line in lines}
    if not lines:
        return used
    parameters = {
        "tenant_id": tenant_id,
        "customer_ref": customer_ref,
        "metrics": [line.usage.metric for line in lines],
        "aggregations": [line.usage.aggregation for line in lines],
        "starts": [line.usage.span.start_at for line in lines],
        "ends": [line.usage.span.end_at for line in lines],
    }
    rows: Sequence[Any] = session.connection().exec_driver_sql(_BY_DAY, parameters).all()
    for row in rows:
        if row.day is None:
            used[row.metric].carried = row.value
        else:
            used[row.metric].by_day[row.day.astimezone(UTC)] = row.value
    return used


# Segments are cut where a period begins: each lies in one period, and in one UTC day. No two
# share an instant, so that the latest of them holds the day's last value. LATERAL with OFFSET 0:
# each metric by its key. What was carried comes with it, as a row without a day.
_BY_DAY = f"""
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest(%(metrics)s::text[], %(aggregations)s::text[], %(starts)s::timestamptz[],
                         %(ends)s::timestamptz[]) AS asked (metric, aggregation, start_at, end_at)
)
SELECT asked.metric, used.day AT TIME ZONE 'UTC' AS day, used.value
FROM asked
CROSS JOIN LATERAL (
    SELECT date_trunc('day', s.segment_start AT TIME ZONE 'UTC') AS day,
           CASE asked.aggregation WHEN 'sum' THEN sum(s.sum_value + s.delta)
                                  WHEN 'count' THEN sum(s.event_count + s.delta)
                                  ELSE max(s.max_value) END AS value
    FROM used_segments s
    WHERE s.tenant_id = %(tenant_id)s AND s.customer_ref = %(customer_ref)s
      AND s.metric = asked.metric
      AND s.segment_start >= asked.start_at AND s.segment_start < asked.end_at
    GROUP BY 1
    OFFSET 0
) AS used
WHERE asked.aggregation <> 'last'
UNION ALL
SELECT asked.metric, used.day AT TIME ZONE 'UTC', used.value
FROM asked
CROSS JOIN LATERAL (
    SELECT DISTINCT ON (1) date_trunc('day', s.segment_start AT TIME ZONE 'UTC') AS day,
           s.last_value AS value
    FROM used_segments s
    WHERE s.tenant_id = %(tenant_id)s AND s.customer_ref = %(customer_ref)s
      AND s.metric = asked.metric
      AND s.segment_start >= asked.start_at AND s.segment_start < asked.end_at
      AND s.last_value IS NOT NULL
    ORDER BY 1, s.segment_start DESC
    OFFSET 0
) AS used
WHERE asked.aggregation = 'last'
UNION ALL
SELECT asked.metric, NULL, earlier.last_value
FROM asked
JOIN metrics m ON m.tenant_id = %(tenant_id)s AND m.metric = asked.metric AND m.carry_over
CROSS JOIN LATERAL (
    SELECT {LEVEL} AS last_value FROM used_counters c
    WHERE c.tenant_id = %(tenant_id)s AND c.customer_ref = %(customer_ref)s
      AND c.metric = asked.metric AND c.period_start < asked.start_at
      AND c.last_value IS NOT NULL
    ORDER BY c.period_start DESC LIMIT 1
) AS earlier
WHERE asked.aggregation = 'last'
"""
