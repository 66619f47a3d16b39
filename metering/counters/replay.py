"""Go over a stretch of the ledger and find what counters hold otherwise than it says.

Three phases, each with a place from which it can go on: the hours of the ledger, then the
resources of unique counts, then the counters against their hours. One page ends after so many
doubts, so much of the ledger to be read again under the lock, or so many seconds.
"""

import time
from collections import Counter as Tally
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from metering.catalog import metrics
from metering.catalog.period import Span, calendar_month, hour_of
from metering.counters import doubts, doubts_counters, doubts_members
from metering.counters.doubts import Difference, Place, Scope
from metering.counters.doubts_members import Member
from metering.counters.mending import NOT_ASKED, Doubts
from metering.errors import InvalidInputError

# One transaction, and the instant at which it began.
Step = Callable[[], AbstractContextManager[tuple[Session, datetime]]]

SEGMENTS, MEMBERS, COUNTERS = "segments", "members", "counters"
PHASES = (SEGMENTS, MEMBERS, COUNTERS)
HOUR = timedelta(hours=1)
_FIRST, _LONGEST = timedelta(hours=6), timedelta(days=31)
# What one statement should take, in seconds: the next stretch is longer or shorter accordingly.
_QUICK, _SLOW = 0.4, 1.2
_COUNTERS_AT_ONCE = 500


@dataclass(frozen=True)
class Position:
    """Where a page begins. at: of segments and members; with the others, the last counter read."""

    phase: str
    at: datetime
    customer_ref: str = ""
    metric: str = ""


@dataclass(frozen=True)
class Budget:
    """When a page ends. events: of the stretches that are to be read again under the lock."""

    seconds: float
    doubts: int = 2_000
    events: int = 1_500_000


@dataclass
class Found:
    """What a page found. events: that belong into counters.  late: that are set aside.

    next: where the next page begins; None: this was the last.
    """

    segments: dict[Place, Difference] = field(default_factory=dict)
    counters: dict[Place, Difference] = field(default_factory=dict)
    uncovered: list[Place] = field(default_factory=list)
    missing: list[Member] = field(default_factory=list)
    superfluous: list[Member] = field(default_factory=list)
    events: Tally[str] = field(default_factory=Tally)
    late: Tally[str] = field(default_factory=Tally)
    next: Position | None = None
    asked_at: datetime = NOT_ASKED

    @property
    def doubtful(self) -> int:
        return sum(
            map(
                len,
                (self.segments, self.counters, self.uncovered, self.missing, self.superfluous),
            )
        )

    def take(self, other: "Found") -> None:
        """Add what a further stretch has shown."""
        self.segments |= other.segments
        self.uncovered += other.uncovered
        self.missing += other.missing
        self.events.update(other.events)
        self.late.update(other.late)

    def doubts(self) -> Doubts:
        return Doubts(
            segments=list(self.segments),
            counters=sorted({*self.counters, *self.uncovered}),
            missing=self.missing,
            superfluous=self.superfluous,
            asked_at=self.asked_at,
        )


def scope(
    session: Session, tenant_id: str, names: list[str] | None, customer_ref: str | None
) -> Scope:
    """Whose numbers are meant. Raises: NotFoundError for a metric that does not exist."""
    if names is None:
        return Scope(tenant_id, None, customer_ref)
    for name in names:
        metrics.get(session, tenant_id, name)
    return Scope(tenant_id, tuple(sorted(set(names))), customer_ref)


def span(
    session: Session, of: Scope, since: datetime | None, until: datetime | None, *, now: datetime
) -> Span:
    """The range in whole UTC hours; by default from the oldest open period to now.

    Raises: InvalidInputError if it is empty.
    """
    if since is None:
        month = calendar_month(now).start_at
        oldest = doubts_counters.oldest_open(session, of)
        since = month if oldest is None else min(month, oldest)
        if until is not None:
            since = min(since, calendar_month(until - timedelta(microseconds=1)).start_at)
    end = now if until is None else until
    start_at, end_at = hour_of(since), hour_of(end)
    if end_at < end:
        end_at += HOUR
    if start_at >= end_at:
        raise InvalidInputError("until must lie after since", pointer="/until")
    return Span(start_at, end_at)


def start(of: Span) -> Position:
    return Position(SEGMENTS, of.start_at)


def scan(step: Step, of: Scope, whole: Span, begin: Position, budget: Budget) -> Found:
    """Read one page, without a lock; each statement in a transaction of its own."""
    return _Scan(step, of, whole, budget).page(begin)


class _Scan:
    def __init__(self, step: Step, of: Scope, whole: Span, budget: Budget) -> None:
        self.step, self.scope, self.whole, self.budget = step, of, whole, budget
        self.started = time.monotonic()
        self.length = _FIRST
        self.found = Found()
        self.to_read_again = 0
        with step() as (session, now):
            self.found.asked_at = now
            self.unique = replace(of, metrics=doubts_members.keeping(session, of))

    def page(self, begin: Position) -> Found:
        phases = {SEGMENTS: self._segments, MEMBERS: self._members, COUNTERS: self._counters}
        place: Position | None = begin
        while place is not None:
            place = phases[place.phase](place)
            if self._is_full():
                break
        self.found.next = place
        return self.found

    def _is_full(self) -> bool:
        return (
            self.found.doubtful >= self.budget.doubts
            or self.to_read_again >= self.budget.events
            or time.monotonic() - self.started >= self.budget.seconds
        )

    def _segments(self, begin: Position) -> Position:
        while True:
            end_at, began = min(begin.at + self.length, self.whole.end_at), time.monotonic()
            found = self._stretch(Span(begin.at, end_at))
            taken = time.monotonic() - began
            if found.doubtful <= self.budget.doubts or self.length <= HOUR:
                break
            # More than a page may hold: a shorter stretch holds less.
            self.length = max(HOUR, self.length // 4 // HOUR * HOUR)
        if taken < _QUICK:
            self.length = min(_LONGEST, self.length * 2)
        elif taken > _SLOW:
            self.length = max(HOUR, self.length // 2 // HOUR * HOUR)
        self.found.take(found)
        if found.doubtful:
            self.to_read_again += found.events.total()
        if end_at < self.whole.end_at:
            return Position(SEGMENTS, end_at)
        return Position(MEMBERS if self.unique.metrics else COUNTERS, self.whole.start_at)

    def _stretch(self, stretch: Span) -> Found:
        found = Found()
        with self.step() as (session, _):
            scanned = doubts.of_segments(session, self.scope, stretch)
            if self.unique.metrics:
                found.missing = doubts_members.missing(session, self.unique, stretch)
        found.events.update(scanned.events)
        found.segments, found.uncovered = scanned.segments, scanned.uncovered
        with self.step() as (session, _):
            found.late.update(doubts_counters.late_events(session, self.scope, stretch))
        return found

    def _members(self, begin: Position) -> Position:
        """Of the periods that begin in the range, a calendar month of beginnings at a time."""
        month = Span(begin.at, min(calendar_month(begin.at).end_at, self.whole.end_at))
        with self.step() as (session, _):
            self.found.superfluous += doubts_members.superfluous(session, self.unique, month)
        if month.end_at < self.whole.end_at:
            return Position(MEMBERS, month.end_at)
        return Position(COUNTERS, self.whole.start_at)

    def _counters(self, begin: Position) -> Position | None:
        after = None
        if begin.customer_ref:
            after = Place(begin.customer_ref, begin.metric, begin.at)
        with self.step() as (session, _):
            wrong, after = doubts_counters.of_counters(
                session, self.scope, self.whole, after, most=_COUNTERS_AT_ONCE
            )
        self.found.counters |= wrong
        if after is None:
            return None
        return Position(COUNTERS, after.at, after.customer_ref, after.metric)
