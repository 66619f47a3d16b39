"""What the pages about adjustments show: what waits and what hangs on it, then each by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import reduce

from sqlalchemy.orm import Session

from metering.billing import at_stake
from metering.billing.at_stake import Decision, Money
from metering.catalog import customers
from metering.catalog.models import Customer
from metering.counters import adjustments, bounds, standing
from metering.counters.adjustments import Content, Filter
from metering.counters.bounds import Bounds
from metering.counters.models import Adjustment, AdjustmentStep, SetAside
from metering.ledger import read
from pricing import money
from pricing.numbers import EXACT, ZERO
from webapp import shown
from webapp.adjustments_console import words
from webapp.adjustments_console.choices import Choice, choices
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
    said = [f"{by_hand:,} made by hand"] if by_hand else []
    return said + ([f"{unbilled:,} of usage that no invoice bills"] if unbilled else [])


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


@dataclass(frozen=True)
class Effect:
    """A period's total and its cost, without and with."""

    title: str
    period: str
    total: tuple[str, str, str]
    cost: tuple[str, str, str] | None
    unknown: str | None


@dataclass(frozen=True)
class Step:
    """A line of the audit trail."""

    what: str
    who: str
    note: str | None
    at: Moment | None


@dataclass(frozen=True)
class Event:
    """One of its events."""

    id: str
    quantity: str
    resource: str | None
    occurred: str
    recorded: str
    state: str


@dataclass(frozen=True)
class Detail:
    """One adjustment."""

    id: str
    happened: str
    summary: str
    status: str
    became: str | None
    is_pending: bool
    note: str | None
    customer: str
    metric: str
    period: str
    state: str
    aggregation: str
    effects: Sequence[Effect]
    choices: Sequence[Choice]
    steps: Sequence[Step]
    events: int


def detail(
    one: Adjustment,
    content: Content,
    place: Bounds,
    decision: Decision,
    steps: Sequence[AdjustmentStep],
    aggregation: str,
    name: str | None,
    now: datetime,
) -> Detail:
    """Everything about it but its events. name: the customer's."""
    became = words.DISPOSITIONS[one.disposition][0] if one.disposition else None
    is_carried = one.status == "approved" and one.disposition == "carry_forward"
    effects = [_effect("In its own period", decision.own)]
    if decision.carried.span != decision.own.span or is_carried:
        effects.append(_effect("Carried forward", decision.carried))
    return Detail(
        id=one.adjustment_id,
        happened=words.happened(one, content.events, place.own, name),
        summary=_summary(one, decision),
        status=words.STATUSES[one.status],
        became=became if one.status == "approved" else None,
        is_pending=one.status == "pending",
        note=one.note,
        customer=one.customer_ref,
        metric=one.metric,
        period=words.period(place.own.span),
        state=place.own.state,
        aggregation=aggregation,
        effects=effects,
        choices=choices(one, decision, place.own),
        steps=[_step(each, now) for each in steps],
        events=content.events,
    )


def _summary(one: Adjustment, decision: Decision) -> str:
    """Where it stands, and what that means for the money."""
    if one.status == "approved":
        if one.disposition == "apply":
            return f"It counts: {words.becomes(decision.own)}."
        if one.disposition == "carry_forward":
            return f"It is carried forward: {words.becomes(decision.carried)}."
        became = words.DISPOSITIONS[one.disposition or ""][0]
        return f"It is {became}: no total has changed."
    begun = {"pending": "It waits for a decision", "declined": "It was declined"}
    was = begun.get(one.status, "Its approval was reverted")
    change = words.change(decision.own.money)
    if change is None:
        return f"{was}. Nothing of it counts; {decision.own.money.why_not}."
    return f"{was}. Nothing of it counts. Applied, it changes the bill by {change}."


def _effect(title: str, of: at_stake.Change) -> Effect:
    effect, cost = of.effect, of.money
    before, after = words.money(cost.without, cost), words.money(cost.applied, cost)
    change = words.change(cost)
    has_price = before is not None and after is not None and change is not None
    return Effect(
        title=title,
        period=words.period(of.span),
        total=(
            shown.quantity(effect.without),
            shown.quantity(effect.applied),
            words.signed(effect.difference),
        ),
        cost=(before or "", after or "", change or "") if has_price else None,
        unknown=cost.why_not,
    )


def _step(of: AdjustmentStep, now: datetime) -> Step:
    action, _, disposition = of.action.partition(": ")
    what = words.STEPS.get(action, action)
    if disposition:
        what = f"{what}: {words.DISPOSITIONS[disposition][0]}"
    return Step(what, words.who(of.actor), of.note, moment(of.taken_at, now))


def events(session: Session, tenant_id: str, page: Sequence[SetAside]) -> list[Event]:
    """A page of its events."""
    found = read.by_keys(session, tenant_id, [row.idempotency_key for row in page])
    standings = standing.of_events(session, tenant_id, list(found.values()))
    listed = [found[row.idempotency_key] for row in page]
    return [
        Event(
            id=each.idempotency_key,
            quantity=shown.quantity(each.quantity),
            resource=each.resource_id,
            occurred=words.exactly(each.occurred_at),
            recorded=words.exactly(each.recorded_at),
            state=words.EVENT_STATES[standings[each.idempotency_key]],
        )
        for each in listed
    ]
