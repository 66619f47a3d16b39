"""What the page of one adjustment shows: what happened, what it does, what can be done and was."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from metering.billing.at_stake import Change, Decision
from metering.counters import standing
from metering.counters.adjustments import Content
from metering.counters.bounds import Bounds
from metering.counters.models import Adjustment, AdjustmentStep, SetAside
from metering.ledger import read
from webapp import shown
from webapp.adjustments_console import words
from webapp.adjustments_console.choices import Choice, choices
from webapp.stripe_console.words import Moment, moment


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


def of(
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
            return f"It counts: {words.total(decision.own, 'is')}."
        if one.disposition == "carry_forward":
            return f"It is carried forward: {words.total(decision.carried, 'is')}."
        became = words.DISPOSITIONS[one.disposition or ""][0]
        return f"It is {became}: no total has changed."
    begun = {"pending": "It waits for a decision", "declined": "It was declined"}
    was = begun.get(one.status, "Its approval was reverted")
    change = words.change(decision.own.money)
    if change is None:
        return f"{was}. Nothing of it counts; {decision.own.money.why_not}."
    return f"{was}. Nothing of it counts. Applied, it changes the bill by {change}."


def _effect(title: str, of: Change) -> Effect:
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


def events_of(session: Session, tenant_id: str, page: Sequence[SetAside]) -> list[Event]:
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
