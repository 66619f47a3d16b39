"""Replay: make counters what the ledger says, and tell what that changes before it is done.

    scan     without a lock: what is doubtful in a page of the ledger (`counters.replay`)
    apply    in one transaction under the tenant's lock: read, mend, read again
    price    without a lock: what the two readings cost

A dry run does the same and takes it back, so that it can say nothing else than what an apply
would do.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from metering.billing import prices
from metering.billing.prices import InForce
from metering.catalog import metrics
from metering.catalog.period import Span
from metering.counters import mending, replay
from metering.counters.aggregation import reading
from metering.counters.doubts import Difference, Place, Scope
from metering.counters.located import Located, PeriodKey, locate
from metering.counters.replay import Budget, Found, Position, Step
from metering.database import taken_back
from metering.stripe import expected
from metering.stripe.expected import Delta
from metering.stripe.spans import Source
from pricing import PricingError
from pricing.money import Currency

ZERO = Decimal(0)


@dataclass(frozen=True)
class Asked:
    """What is to be replayed. default_account: the Stripe keys' own."""

    scope: Scope
    span: Span
    applies: bool
    default_account: str | None = None


@dataclass(frozen=True)
class Change:
    """What replay changes of one counter, by the reading that is billed, else the metric's own.

    amounts: whole minor units; None where there is no price, and then `why_not` says why.
    """

    customer_ref: str
    metric: str
    span: Span
    aggregation: str
    before: Decimal
    after: Decimal
    counted: Decimal
    currency: Currency | None = None
    amount_before: int | None = None
    amount_after: int | None = None
    why_not: str | None = None

    @property
    def delta(self) -> Decimal:
        return self.after - self.before


@dataclass(frozen=True)
class Closed:
    """A closed period whose counter is not what the ledger says: it never changes.

    difference: ledger less counter.  segments: hours of it in which they differ.
    """

    customer_ref: str
    metric: str
    span: Span
    segments: int
    difference: Difference


@dataclass
class Page:
    """What one page found, and changed or would change.

    found: events that belong into counters, by metric.  late: that are set aside and stay so.
    segments, members: how many rows.  next: None after the last page.
    """

    asked: Asked
    found: dict[str, int]
    late: dict[str, int]
    next: Position | None
    changes: list[Change] = field(default_factory=list)
    closed: list[Closed] = field(default_factory=list)
    stripe: list[Delta] = field(default_factory=list)
    segments: int = 0
    counters: int = 0
    members: int = 0

    @property
    def is_right(self) -> bool:
        return not (self.segments or self.counters or self.members)


def page(step: Step, asked: Asked, begin: Position, budget: Budget) -> Page:
    """Replay one page. step: opens a transaction; an apply is committed by one of them."""
    found = replay.scan(step, asked.scope, asked.span, begin, budget)
    made = Page(asked, dict(found.events), dict(found.late), found.next)
    if not found.doubtful:
        return made
    with step() as (session, now):
        # Taken back, it also gives the tenant's lock back.
        with nullcontext() if asked.applies else taken_back(session):
            readings = _apply(session, asked, found, made, now)
        if not asked.applies:
            session.expire_all()
    with step() as (session, _):
        made.changes = _priced(session, asked.scope.tenant_id, readings)
    return made


@dataclass(frozen=True)
class _Reading:
    """A counter before and after; None: there is none."""

    key: PeriodKey
    before: Any
    after: Any


def _apply(
    session: Session, asked: Asked, found: Found, made: Page, now: datetime
) -> list[_Reading]:
    tenant_id, doubts = asked.scope.tenant_id, found.doubts()
    mending.lock(session, tenant_id)
    members = [*doubts.missing, *doubts.superfluous]
    starts = [Place(m.customer_ref, m.metric, m.period_start) for m in members]
    located = locate(session, tenant_id, [*doubts.segments, *doubts.counters, *starts])
    made.closed = _closed(found, located, starts)
    keys = _keys(doubts.counters, located)
    before = _totals(session, tenant_id, keys)
    done = mending.mend(session, tenant_id, doubts, now=now)
    after = _totals(session, tenant_id, keys)
    made.segments, made.members = len(done.segments), len(done.members)
    made.counters = len(done.counters)
    made.stripe = expected.deltas(
        session,
        tenant_id,
        _sources(done.segments),
        _sources(done.counters),
        now=now,
        default_account=asked.default_account,
    )
    return [
        _Reading(key, before.get(place), after.get(place))
        for place, key in keys.items()
        if before.get(place) != after.get(place)
    ]


def _sources(places: Iterable[Place]) -> list[tuple[Source, datetime]]:
    return [(Source(place.customer_ref, place.metric), place.at) for place in places]


def _keys(doubted: Iterable[Place], located: Located) -> dict[Place, PeriodKey]:
    """The counters that may change, by the start that they have or should have."""
    keys = {
        Place(key.customer_ref, key.metric, key.span.start_at): key for key in located.open.values()
    }
    for place in doubted:
        # What is taken for a counter and begins where no period does.
        if place in located.open:
            keys.setdefault(place, located.open[place])
    return dict(sorted(keys.items()))


_TOTALS = """
SELECT w.customer_ref, w.metric, w.at, c.event_count, c.sum_value, c.max_value, c.last_value,
       c.unique_count, c.delta
FROM unnest(%(refs)s::text[], %(metrics)s::text[], %(ats)s::timestamptz[])
    AS w (customer_ref, metric, at)
CROSS JOIN LATERAL (
    SELECT event_count, sum_value, max_value, last_value, unique_count, delta FROM used_counters
    WHERE tenant_id = %(tenant_id)s AND customer_ref = w.customer_ref AND metric = w.metric
      AND period_start = w.at
    OFFSET 0
) AS c
"""


def _totals(session: Session, tenant_id: str, places: Iterable[Place]) -> dict[Place, Any]:
    named = list(places)
    parameters = {
        "tenant_id": tenant_id,
        "refs": [place.customer_ref for place in named],
        "metrics": [place.metric for place in named],
        "ats": [place.at for place in named],
    }
    rows = session.connection().exec_driver_sql(_TOTALS, parameters)
    return {Place(row.customer_ref, row.metric, row.at.astimezone(UTC)): row for row in rows}


def _closed(found: Found, located: Located, members: Sequence[Place]) -> list[Closed]:
    """Differences within closed periods, put together by period."""
    hours: dict[PeriodKey, int] = defaultdict(int)
    sums: dict[PeriodKey, Difference] = {}
    for place, difference in found.segments.items():
        if place in located.closed:
            key = located.closed[place]
            hours[key] += 1
            sums[key] = _plus(sums.get(key, Difference()), difference)
    for place, difference in found.counters.items():
        if place in located.closed:
            sums.setdefault(located.closed[place], difference)
    for place in [*found.uncovered, *members]:
        if place in located.closed:
            sums.setdefault(located.closed[place], Difference())
    return [
        Closed(key.customer_ref, key.metric, key.span, hours[key], sums[key])
        for key in sorted(sums)
    ]


def _plus(one: Difference, other: Difference) -> Difference:
    return Difference(one.events + other.events, one.quantity + other.quantity)


def _priced(session: Session, tenant_id: str, readings: Sequence[_Reading]) -> list[Change]:
    """By the price in force, in the reading that it is of."""
    wanted: dict[tuple[str, Span], set[str]] = defaultdict(set)
    for each in readings:
        wanted[each.key.customer_ref, each.key.span].add(each.key.metric)
    own = metrics.found(session, tenant_id, {each.key.metric for each in readings})
    found: dict[tuple[str, Span, str], InForce] = {}
    for (ref, span), names in wanted.items():
        for name, price in prices.in_force(session, tenant_id, ref, sorted(names), span).items():
            found[ref, span, name] = price
    changes = []
    for each in readings:
        key = each.key
        known = own.get(key.metric)
        aggregation = known.aggregation if known else "sum"
        changes.append(_change(each, found[key.customer_ref, key.span, key.metric], aggregation))
    # A counter may have been mended where nobody reads it.
    return [change for change in changes if change.delta or change.counted]


def _change(each: _Reading, price: InForce, own: str) -> Change:
    billed = price.aggregation or own
    before, after = _read(billed, each.before), _read(billed, each.after)
    counted = _read(own, each.after) - _read(own, each.before)
    key = each.key
    change = Change(key.customer_ref, key.metric, key.span, billed, before, after, counted)
    if price.price is None:
        return replace(change, why_not=price.why_not)
    try:
        amounts = price.price.amount(before), price.price.amount(after)
    except PricingError as error:
        return replace(change, why_not=str(error))
    return replace(
        change, currency=price.price.currency, amount_before=amounts[0], amount_after=amounts[1]
    )


def _read(aggregation: str, row: Any) -> Decimal:
    return ZERO if row is None else reading(aggregation, row, row.unique_count)
