"""Where an event lies, and whether it counts: the walk from the ledger into a counter."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.catalog.models import BillingPeriod
from metering.catalog.period import Span, hour_of
from metering.counters import dead_letters, standing, usage
from metering.counters.models import Adjustment, DeadLetter, SetAside, Void
from metering.ledger.models import Event
from metering.proof.steps import DONE, STOPPED, WAITING, Step, number, on, sentence
from metering.stripe.spans import Periods, Source

# Dispositions by which a set-aside event counts in a total.
COUNTING = ("apply", "carry_forward")


@dataclass(frozen=True)
class Place:
    """The billing period and the segment in which an event counts, or would.

    row: the period as a subscription item has it; None: a calendar month, bound to none.
    """

    source: Source
    span: Span
    segment_start: datetime
    row: BillingPeriod | None

    def state(self, now: datetime) -> str:
        """`open`, `closing` (over, but late usage still counts) or `closed`."""
        if self.row is not None and (self.row.closed_at or self.row.final_at):
            return "closed"
        return "open" if now < self.span.end_at else "closing"

    @property
    def words(self) -> str:
        return f"the billing period {on(self.span.start_at)} to {on(self.span.end_at)}"


def at(session: Session, event: Event, instant: datetime) -> Place:
    """Where an instant of the event's customer and metric lies."""
    source = Source(event.customer_ref, event.metric)
    found = Periods(session, event.tenant_id, [source]).at(source, instant)
    row = session.scalar(
        select(BillingPeriod).where(
            BillingPeriod.tenant_id == event.tenant_id,
            BillingPeriod.customer_ref == event.customer_ref,
            BillingPeriod.metric == event.metric,
            BillingPeriod.start_at <= instant,
            BillingPeriod.end_at > instant,
        )
    )
    span = Span(found.start_at, found.end_at)
    return Place(source, span, max(hour_of(instant), span.start_at), row)


@dataclass(frozen=True)
class Counting:
    """The counter's step. status: as the list of events has it.  counts: in some total."""

    step: Step
    status: str
    counts: bool
    place: Place


def counting(session: Session, event: Event, *, now: datetime) -> Counting:
    """Whether the event counts, where, and why not."""
    tenant_id, key = event.tenant_id, event.idempotency_key
    place = at(session, event, event.occurred_at)
    void = session.get(Void, (tenant_id, key))
    if void is not None:
        return _voided(void, place, now)
    # One that was approved stands among the counted, and yet has a story.
    aside = session.get(SetAside, (tenant_id, key))
    if aside is not None:
        return _aside(session, event, aside, place, now)
    status = standing.of_events(session, tenant_id, [event])[key]
    match status:
        case "unfolded":
            text = "It is received and waits to be counted, which takes some seconds."
            return Counting(
                Step("counter", WAITING, text, facts=_of(place, now)), status, False, place
            )
        case "dead_letter":
            return _dead(session, event, place, now)
    return _counted(session, event, place, now)


def _of(place: Place, now: datetime) -> dict[str, object]:
    return {
        "period_start": place.span.start_at,
        "period_end": place.span.end_at,
        "period_state": place.state(now),
        "closes_at": place.row.closes_at if place.row is not None else None,
    }


def _counted(session: Session, event: Event, place: Place, now: datetime) -> Counting:
    facts, total = _of(place, now), ""
    used = usage.of_customer(session, event.tenant_id, event.customer_ref, place.span, now=now)
    for metric in used.metrics:
        if metric.metric == event.metric:
            facts |= {"aggregation": metric.aggregation, "total": metric.value}
            total = f", whose total is {number(metric.value)} ({metric.aggregation})"
    text = f"It is counted in {place.words}{total}."
    return Counting(Step("counter", DONE, text, facts=facts), "counted", True, place)


def _voided(void: Void, place: Place, now: datetime) -> Counting:
    text = sentence(
        f"It was voided on {on(void.voided_at)} by {void.actor} and counts nowhere: {void.reason}"
    )
    facts = _of(place, now) | {"reason": void.reason, "actor": void.actor}
    return Counting(Step("counter", STOPPED, text, void.voided_at, facts), "voided", False, place)


def _dead(session: Session, event: Event, place: Place, now: datetime) -> Counting:
    letter = session.get(DeadLetter, (event.tenant_id, event.idempotency_key))
    facts, failed_at, error = _of(place, now), None, "a reason that is not known"
    if letter is not None:
        error, failed_at = dead_letters.in_words(letter.error), letter.failed_at
        facts["error"] = error
    text = (
        f"It could not be counted, for {error.rstrip('.')}. Once the cause is mended, it can be"
        " counted again."
    )
    step = Step("counter", STOPPED, text, failed_at, facts)
    return Counting(step, "dead_letter", False, place)


_ASIDE = {
    "period_closed": "its billing period was already closed",
    "after_closing": "it arrived after its billing period had closed",
    "older_than_window": "it was older on arrival than this metric allows",
    "backfill": "it came with a backfill that sets aside what is old",
}


def _aside(
    session: Session, event: Event, aside: SetAside, place: Place, now: datetime
) -> Counting:
    decision = None
    if aside.adjustment_id is not None:
        decision = session.get(Adjustment, (event.tenant_id, aside.adjustment_id))
    why = _ASIDE.get(aside.reason, aside.reason)
    facts = {"reason": aside.reason, "set_aside_at": aside.set_aside_at}
    if decision is not None:
        facts |= {
            "adjustment_id": decision.adjustment_id,
            "adjustment_status": decision.status,
            "disposition": decision.disposition,
        }
    counts = (
        decision is not None and decision.status == "approved" and decision.disposition in COUNTING
    )
    if counts and decision is not None and decision.segment_start is not None:
        place = at(session, event, decision.segment_start)
    status, text = _decided(decision)
    text = f"It was set aside, for {why}. {text}"
    if counts:
        text += f" It counts in {place.words}."
    decided_at = decision.decided_at if decision is not None else None
    step = Step("counter", status, text, decided_at or aside.set_aside_at, _of(place, now) | facts)
    is_applied = counts and decision is not None and decision.disposition == "apply"
    return Counting(step, "counted" if is_applied else "set_aside", counts, place)


_OUTSIDE = {
    "invoice_item": "to be billed as an invoice item of its own",
    "credit_note": "to be settled by a credit note",
    "write_off": "not to be billed",
}


def _decided(decision: Adjustment | None) -> tuple[str, str]:
    """The counter's status, and what became of the adjustment."""
    if decision is None or decision.status == "pending":
        return WAITING, "Somebody must decide whether it counts after all."
    by = f"by {decision.decided_by} on {on(decision.decided_at)}" if decision.decided_at else ""
    note = f" ({decision.note})" if decision.note else ""
    match decision.status, decision.disposition:
        case "approved", "apply" | "carry_forward":
            return DONE, f"That was approved {by}{note}."
        case "approved", disposition:
            how = _OUTSIDE.get(disposition or "", disposition)
            return STOPPED, f"It was decided {by} that it is {how}{note}: no total holds it."
        case "reverted", _:
            return STOPPED, f"Its approval was taken back {by}{note}, so that it does not count."
    return STOPPED, f"It was declined {by}{note}, so that it does not count."
