"""Usage over time: from hourly segments where hours will do, else from the ledger."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from metering.catalog.period import Span
from metering.counters.aggregation import IS_COUNTED, OF_EVENTS, OF_USED, reading
from metering.database import plan_as_sets
from metering.errors import InvalidInputError
from pricing.numbers import EXACT, ZERO

INTERVALS = ("minute", "hour", "day", "month")
MOST_FROM_LEDGER = timedelta(days=31)
MOST_BY_MINUTE = timedelta(hours=24)
MOST_POINTS = 10_000


@dataclass(frozen=True)
class Question:
    """What is asked: a metric's readings by interval, of one customer or of all together.

    Of all customers together, `last` is the latest reading of any of them and `unique` counts
    a resource once per customer.
    """

    tenant_id: str
    metric: str
    aggregation: str
    customer_ref: str | None
    span: Span
    interval: str
    zone: ZoneInfo


@dataclass(frozen=True)
class Point:
    """One bucket's start and its reading; None where max or last have nothing to read."""

    at: datetime
    value: Decimal | None


@dataclass(frozen=True)
class History:
    """The series, its total over the whole span, and the span that its buckets cover."""

    points: list[Point]
    total: Decimal | None
    span: Span


def ask(session: Session, question: Question) -> History:
    """Answer from what counts, so that the series agrees with the totals: an approved delta is of
    the hour in which it counts.

    Raises: InvalidInputError where the span is longer than its source can serve.
    """
    _check_length(question)
    starts = list(_bucket_starts(question))
    covered = Span(starts[0], _after(starts[-1], question))
    by_bucket = _readings(session, question, covered, starts)
    whole = _readings(session, question, covered, starts[:1])
    empty = Decimal(0) if question.aggregation in ("sum", "count", "unique") else None
    return History(
        points=[Point(at, by_bucket.get(i, empty)) for i, at in enumerate(starts)],
        total=whole.get(0, empty),
        span=covered,
    )


def _needs_ledger(question: Question) -> bool:
    return (
        question.interval == "minute"
        or question.aggregation == "unique"
        or not _keeps_full_hours(question)
    )


def _keeps_full_hours(question: Question) -> bool:
    """True if the zone is whole hours off UTC from the first bucket's start on."""
    day, instant = timedelta(days=1), _floor(question.span.start_at, question)
    while instant < question.span.end_at + day:
        offset = instant.astimezone(question.zone).utcoffset()
        if offset is None or offset % timedelta(hours=1):
            return False
        instant += day
    return True


def _check_length(question: Question) -> None:
    length = question.span.end_at - question.span.start_at
    if question.interval == "minute" and length > MOST_BY_MINUTE:
        raise InvalidInputError("by minute, ask for at most 24 hours", pointer="/since")
    if _needs_ledger(question) and length > MOST_FROM_LEDGER:
        raise InvalidInputError(
            "unique counts, and time zones that are not whole hours off UTC, are read from the"
            " ledger: ask for at most 31 days",
            pointer="/since",
        )


def _bucket_starts(question: Question) -> Iterator[datetime]:
    """The starts, in UTC, of the buckets that the span touches."""
    at = _floor(question.span.start_at, question)
    count = 0
    while at < question.span.end_at:
        count += 1
        if count > MOST_POINTS:
            raise InvalidInputError(
                f"that is more than {MOST_POINTS} points; take a longer interval",
                pointer="/interval",
            )
        yield at
        at = _after(at, question)


def _floor(instant: datetime, question: Question) -> datetime:
    local = instant.astimezone(question.zone)
    match question.interval:
        case "minute":
            # Offsets have been whole minutes since before 2000.
            return instant.astimezone(UTC).replace(second=0, microsecond=0)
        case "hour":
            # Not through the zone's wall clock, on which one hour a year stands twice.
            past = timedelta(minutes=local.minute, seconds=local.second)
            return (instant - past).astimezone(UTC).replace(microsecond=0)
        case "day":
            midnight = datetime(local.year, local.month, local.day, tzinfo=question.zone)
            return midnight.astimezone(UTC)
        case _:
            first = datetime(local.year, local.month, 1, tzinfo=question.zone)
            return first.astimezone(UTC)


def _after(at: datetime, question: Question) -> datetime:
    """The start of the next bucket: some time later, brought back to where a bucket begins."""
    step = {
        "minute": timedelta(minutes=1),
        "hour": timedelta(hours=1),
        # Local days have 23 to 25 hours, months 28 to 31 days.
        "day": timedelta(hours=36),
        "month": timedelta(days=40),
    }[question.interval]
    return _floor(at + step, question)


def _readings(
    session: Session, question: Question, covered: Span, starts: list[datetime]
) -> dict[int, Decimal]:
    """Readings by the position of the bucket in `starts`; the last bucket ends with the span."""
    statement = _FROM_SEGMENTS
    if _needs_ledger(question):
        statement = _FROM_LEDGER
        plan_as_sets(session)
    parameters = {
        "tenant_id": question.tenant_id,
        "metric": question.metric,
        "customer_ref": question.customer_ref,
        "start_at": covered.start_at,
        "end_at": covered.end_at,
        "starts": starts,
    }
    found: dict[int, Decimal] = {}
    for row in session.connection().exec_driver_sql(statement, parameters):
        value = reading(question.aggregation, row, row.unique_count)
        found[row.bucket - 1] = EXACT.add(found.get(row.bucket - 1, ZERO), value)
    return found


# The buckets are handed over as instants: what Postgres thinks of a zone's repeated or missing
# hours then cannot differ from what the series says.
_FROM_SEGMENTS = f"""
SELECT width_bucket(s.segment_start, %(starts)s::timestamptz[]) AS bucket,
       NULL::bigint AS unique_count, {OF_USED}
FROM used_segments s
WHERE s.tenant_id = %(tenant_id)s AND s.metric = %(metric)s
  AND (%(customer_ref)s::text IS NULL OR s.customer_ref = %(customer_ref)s)
  AND s.segment_start >= %(start_at)s AND s.segment_start < %(end_at)s
GROUP BY 1
"""

_FROM_LEDGER = f"""
SELECT width_bucket(e.occurred_at, %(starts)s::timestamptz[]) AS bucket,
       count(DISTINCT (e.customer_ref, e.resource_id)) FILTER (WHERE e.resource_id IS NOT NULL)
           AS unique_count, 0::numeric AS delta, {OF_EVENTS}
FROM events e
WHERE e.tenant_id = %(tenant_id)s AND e.metric = %(metric)s
  AND (%(customer_ref)s::text IS NULL OR e.customer_ref = %(customer_ref)s)
  AND e.occurred_at >= %(start_at)s AND e.occurred_at < %(end_at)s
  AND {IS_COUNTED}
GROUP BY 1
UNION ALL
SELECT width_bucket(s.segment_start, %(starts)s::timestamptz[]), 0, s.delta, 0, 0, NULL, NULL,
       NULL, NULL
FROM corrected_segments s
WHERE s.tenant_id = %(tenant_id)s AND s.metric = %(metric)s
  AND (%(customer_ref)s::text IS NULL OR s.customer_ref = %(customer_ref)s)
  AND s.segment_start >= %(start_at)s AND s.segment_start < %(end_at)s AND s.delta <> 0
"""
