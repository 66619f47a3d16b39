"""What the list of adjustments shows: what waits and what hangs on it, row by row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import reduce

from sqlalchemy.orm import Session

from metering.billing import at_stake
from metering.billing.at_stake import Money
from metering.catalog import customers
from metering.catalog.models import Customer
from metering.counters import adjustments, bounds
from metering.counters.adjustments import Content, Filter
from metering.counters.bounds import Bounds
from metering.counters.models import Adjustment
from pricing import money
from pricing.numbers import EXACT, ZERO
from webapp import shown
from webapp.adjustments_console import words
from webapp.stripe_console.words import Moment, moment

# Of what waits, so much is looked at: the money that hangs on the rest is not known.
MOST_PENDING = 300


@dataclass(frozen=True)
class Waiting:
    """What waits for a decision. stakes: by id.  is_cut: there is more than was looked at."""

    adjustments: Sequence[Adjustment]
    contents: Mapping[str, Content]
    stakes: Mapping[str, Money]
    count: int

    @property
    def is_cut(self) -> bool:
        return self.count > len(self.adjustments)


def waiting(session: Session, tenant_id: str, now: datetime) -> Waiting:
    """The oldest first."""
    wanted = Filter(status="pending", limit=MOST_PENDING, oldest_first=True)
    found = adjustments.page(session, tenant_id, wanted)[:MOST_PENDING]
    return Waiting(
        found,
        adjustments.contents(session, tenant_id, found),
        at_stake.of_pending(session, tenant_id, found, now=now),
        adjustments.pending(session, tenant_id),
    )


def lead(session: Session, tenant_id: str, now: datetime) -> str:
    """The first line alone, for other pages."""
    return sentence(waiting(session, tenant_id, now))


def sentence(of: Waiting) -> str:
    """`3 decisions wait: 1,240 late units, $212.00 at stake.`"""
    if not of.count:
        return "No decision waits."
    waits = "1 decision waits" if of.count == 1 else f"{of.count:,} decisions wait"
    parts = [*_late(of), *_others(of), *_stake(of)]
    return f"{waits}: {', '.join(parts)}."


def _late(of: Waiting) -> list[str]:
    """Units add up only within a metric."""
    late = [one for one in of.adjustments if one.kind == "events"]
    if not late:
        return []
    contents = [of.contents[one.adjustment_id] for one in late]
    more = "at least " if of.is_cut else ""
    if len({one.metric for one in late}) > 1:
        return [more + words.counted(sum(each.events for each in contents), "late event")]
    units = reduce(EXACT.add, (each.quantity for each in contents), ZERO)
    return [f"{more}{shown.quantity(units)} late {'unit' if units == 1 else 'units'}"]


def _others(of: Waiting) -> list[str]:
    by_hand = sum(one.origin == "manual" for one in of.adjustments)
    unbilled = sum(one.origin == "unbilled" for one in of.adjustments)
    more = "at least " if of.is_cut else ""
    said = [f"{more}{by_hand:,} made by hand"] if by_hand else []
    return said + ([f"{more}{unbilled:,} of usage that no invoice bills"] if unbilled else [])


def _stake(of: Waiting) -> list[str]:
    stakes = list(of.stakes.values())
    amounts = at_stake.together(stakes)
    if not amounts:
        return ["and what that costs is not known"] if stakes else []
    known = " and ".join(shown.amount(amount, currency) for currency, amount in amounts)
    is_open = of.is_cut or any(stake.difference is None for stake in stakes)
    return [f"{'at least ' if is_open else ''}{known} at stake"]


@dataclass(frozen=True)
class Row:
    """One of the list.

    amount: what applying it would do to the bill; None: unknown (`unknown` says why), or decided.
    became: what was decided, of one that is approved.
    """

    id: str
    amount: str | None
    unknown: str | None
    metric: str
    customer: str
    name: str | None
    what: str
    period: str
    state: str
    units: str
    status: str
    became: str | None
    made: Moment | None


def rows(
    session: Session,
    tenant_id: str,
    page: Sequence[Adjustment],
    stakes: Mapping[str, Money],
    now: datetime,
) -> list[Row]:
    """stakes: of those that are pending, as far as they are known already."""
    contents = adjustments.contents(session, tenant_id, page)
    places = bounds.of_adjustments(session, tenant_id, page, now=now)
    names = customers.found(session, tenant_id, sorted({one.customer_ref for one in page}))
    unknown = [one for one in page if one.status == "pending" and one.adjustment_id not in stakes]
    stakes = {**stakes, **at_stake.of_pending(session, tenant_id, unknown, now=now)}
    return [
        _row(
            one,
            contents[one.adjustment_id],
            places[one.adjustment_id],
            stakes.get(one.adjustment_id) if one.status == "pending" else None,
            names,
            now,
        )
        for one in page
    ]


def _row(
    one: Adjustment,
    content: Content,
    place: Bounds,
    stake: Money | None,
    names: Mapping[str, Customer],
    now: datetime,
) -> Row:
    what = words.REASONS[one.reason]
    if one.kind == "events":
        what = f"{what}, {words.counted(content.events, 'event')}"
    became = words.DISPOSITIONS[one.disposition][0] if one.disposition else None
    quantity = content.quantity
    return Row(
        id=one.adjustment_id,
        amount=words.change(stake) if stake is not None else None,
        unknown=stake.why_not if stake is not None else None,
        metric=one.metric,
        customer=one.customer_ref,
        name=names[one.customer_ref].name if one.customer_ref in names else None,
        what=what,
        period=words.period(place.own.span),
        state=place.own.state,
        units=words.signed(quantity) if one.kind == "delta" else shown.quantity(quantity),
        status=words.STATUSES[one.status],
        became=became if one.status == "approved" else None,
        made=moment(one.created_at, now),
    )


def by_stake(of: Waiting, customer: str | None, metric: str | None) -> list[Adjustment]:
    """Those that wait, the largest amount first; what has none stands last. Currencies are not
    converted."""

    def rank(one: Adjustment) -> tuple[Decimal, datetime, str]:
        stake = of.stakes[one.adjustment_id]
        size = Decimal(-1)
        if stake.difference is not None and stake.currency is not None:
            size = abs(money.major(stake.difference, stake.currency))
        return -size, one.created_at, one.adjustment_id

    chosen = [
        one
        for one in of.adjustments
        if customer in (None, one.customer_ref) and metric in (None, one.metric)
    ]
    return sorted(chosen, key=rank)
