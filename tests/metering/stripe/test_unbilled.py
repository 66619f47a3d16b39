"""What no invoice bills is proposed as an adjustment, once, and follows what is missing."""

from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from metering.catalog.period import calendar_month
from metering.counters import adjustments, deciding
from metering.counters.adjustments import Wanted
from metering.counters.models import Adjustment, AdjustmentStep
from metering.database import unit_of_work
from metering.stripe import findings, shadow, unbilled, unsent
from metering.stripe.models import Push, Unsendable
from metering.tenancy.models import Tenant
from tests.metering.stripe import test_invoices as life
from tests.metering.stripe.test_invoices import END, FINALIZES, MINUTE, START, acme, final, note
from tests.stripe_setup import Connected, FakeStripe, add_mapping, connect, push_all
from tests.support import entry, put

__all__ = ["acme"]

KNOWN = FINALIZES + timedelta(hours=2)
LATE = FINALIZES + timedelta(hours=1)
HOUR = timedelta(hours=1)


def proposals(session: Session, acme: Connected) -> list[Adjustment]:
    session.rollback()
    statement = select(Adjustment).where(Adjustment.tenant_id == acme.tenant_id)
    ordered = statement.order_by(Adjustment.customer_ref, Adjustment.created_at)
    return list(session.scalars(ordered.execution_options(populate_existing=True)))


def steps(session: Session, acme: Connected) -> list[tuple[str, str]]:
    session.rollback()
    rows = session.execute(
        select(AdjustmentStep.action, AdjustmentStep.actor)
        .where(AdjustmentStep.tenant_id == acme.tenant_id)
        .order_by(AdjustmentStep.adjustment_id, AdjustmentStep.number)
    )
    return [(row[0], row[1]) for row in rows]


def look(session: Session, acme: Connected, at: datetime = KNOWN) -> None:
    with unit_of_work(session):
        places = unbilled.places(session, acme.tenant_id)
        unbilled.propose(session, acme.tenant_id, places, now=at)


def use(session: Session, acme: Connected, quantity: int, at: datetime, customer: str = "cus_1",
        metric: str = "api_calls") -> None:  # fmt: skip
    used = entry(f"{customer}-{metric}-{quantity}-{at}", quantity, at, customer=customer,
                 metric=metric)  # fmt: skip
    put(session, acme.tenant_id, [used], now=at)
    life.fold_now(session, acme, at)


def decide(session: Session, row: Adjustment, status: str, disposition: str | None = None) -> None:
    """As people do, whatever else that does."""
    with unit_of_work(session):
        session.execute(
            update(Adjustment)
            .where(
                Adjustment.tenant_id == row.tenant_id,
                Adjustment.adjustment_id == row.adjustment_id,
            )
            .values(status=status, disposition=disposition)
        )


def pushed_late(session: Session, acme: Connected, quantity: int = 7) -> None:
    """Stripe finalized, we did not hear of it, and sent more, which it took."""
    use(session, acme, quantity, END - HOUR)
    push_all(session, acme, FakeStripe(), now=LATE)
    note(session, acme, final(), now=KNOWN)


def test_what_stripe_took_after_it_was_final_is_proposed(session: Session, acme: Connected) -> None:
    stripe = FakeStripe()
    use(session, acme, 3, START + HOUR)
    push_all(session, acme, stripe, now=START + 2 * HOUR)
    use(session, acme, 7, END - HOUR)
    push_all(session, acme, stripe, now=LATE)
    assert proposals(session, acme) == []
    note(session, acme, final(), now=KNOWN)
    [row] = proposals(session, acme)
    assert (row.origin, row.kind, row.reason, row.status) == (
        "unbilled",
        "delta",
        "late",
        "pending",
    )
    assert (row.customer_ref, row.metric, row.period_start) == ("cus_1", "api_calls", START)
    assert (row.delta, row.created_by, row.created_at) == (7, "stripemeter", KNOWN)
    assert row.note is not None
    for part in ("accepted 7 ", "in_1", "2026-11-15 11:23:45 UTC", f"{LATE:%H:%M:%S} UTC"):
        assert part in row.note
    assert "may be on the invoice" not in row.note
    assert steps(session, acme) == [("propose", "stripemeter")]


def test_finding_it_again_proposes_nothing_twice(session: Session, acme: Connected) -> None:
    pushed_late(session, acme)
    for minutes in range(3):
        look(session, acme, KNOWN + minutes * MINUTE)
        note(session, acme, final(status="paid"), now=KNOWN + minutes * MINUTE)
    assert [row.delta for row in proposals(session, acme)] == [7]
    assert len(steps(session, acme)) == 1


def test_what_is_accepted_after_we_know_is_found_by_the_look(
    session: Session, acme: Connected
) -> None:
    """It was on its way when we heard; whether it is on the invoice only the invoice tells."""
    pushed_late(session, acme)
    with unit_of_work(session):
        session.execute(
            update(Push)
            .where(Push.tenant_id == acme.tenant_id)
            .values(state="claimed", settled_at=None, claimed_at=FINALIZES - MINUTE)
        )
        session.execute(
            update(Adjustment)
            .where(Adjustment.tenant_id == acme.tenant_id)
            .values(delta=5, note=None)
        )
    look(session, acme)
    [row] = proposals(session, acme)
    assert (row.status, row.delta) == ("declined", 0), "nothing was taken, as far as is known"
    with unit_of_work(session):
        session.execute(
            update(Push)
            .where(Push.tenant_id == acme.tenant_id)
            .values(state="settled", settled_at=KNOWN + MINUTE)
        )
    look(session, acme, KNOWN + 2 * MINUTE)
    [_, again] = proposals(session, acme)
    assert (again.status, again.delta) == ("pending", 7)
    assert again.note is not None
    assert "may be on the invoice" in again.note


def test_what_cannot_be_sent_is_one_proposal_that_follows_it(
    session: Session, acme: Connected
) -> None:
    stripe = FakeStripe()
    use(session, acme, 3, END - 2 * HOUR)
    use(session, acme, 4, END - HOUR)
    note(session, acme, final(), now=KNOWN)
    push_all(session, acme, stripe, now=KNOWN)
    assert stripe.calls == []
    look(session, acme)
    [row] = proposals(session, acme)
    assert (row.delta, row.status) == (7, "pending")
    assert row.note == "7 was not sent to Stripe, for the period's invoice is final."
    _change(session, acme, Decimal(6))
    look(session, acme, KNOWN + MINUTE)
    [row] = proposals(session, acme)
    assert row.delta == 10
    assert [action for action, _ in steps(session, acme)] == ["propose", "change"]


def _change(session: Session, acme: Connected, quantity: Decimal) -> None:
    """Another quantity is missing of the first of its segments."""
    with unit_of_work(session):
        first = session.scalars(
            select(Unsendable)
            .where(Unsendable.tenant_id == acme.tenant_id)
            .order_by(Unsendable.segment_start)
        ).first()
        assert first is not None
        first.quantity, first.is_decided = quantity, False


def unsent_and_decided(session: Session, acme: Connected, *decision: str) -> None:
    use(session, acme, 7, END - HOUR)
    note(session, acme, final(), now=KNOWN)
    push_all(session, acme, FakeStripe(), now=KNOWN)
    look(session, acme)
    [row] = proposals(session, acme)
    decide(session, row, *decision)
    look(session, acme, KNOWN + MINUTE)


def test_what_is_decided_stays_and_the_rest_is_another_proposal(
    session: Session, acme: Connected
) -> None:
    unsent_and_decided(session, acme, "approved", "carry_forward")
    assert [row.delta for row in proposals(session, acme)] == [7]
    _change(session, acme, Decimal(9))
    look(session, acme, KNOWN + 2 * MINUTE)
    first, second = proposals(session, acme)
    assert (first.status, first.delta) == ("approved", 7)
    assert (second.status, second.delta) == ("pending", 2)


def test_what_was_billed_elsewhere_and_is_missing_no_more_is_taken_back(
    session: Session, acme: Connected
) -> None:
    unsent_and_decided(session, acme, "approved", "carry_forward")
    _change(session, acme, Decimal(0))
    look(session, acme, KNOWN + 2 * MINUTE)
    assert [(row.status, row.delta) for row in proposals(session, acme)] == [
        ("approved", 7),
        ("pending", -7),
    ]


def test_what_was_let_go_needs_no_taking_back(session: Session, acme: Connected) -> None:
    unsent_and_decided(session, acme, "declined")
    for quantity, more in ((0, []), (5, []), (9, [2])):
        _change(session, acme, Decimal(quantity))
        look(session, acme, KNOWN + timedelta(minutes=quantity + 2))
        assert [row.delta for row in proposals(session, acme)] == [7, *more]


def test_a_decision_that_was_taken_is_asked_for_no_more(session: Session, acme: Connected) -> None:
    def stuck() -> list[str]:
        session.rollback()
        return [each.kind for each in findings.found(session, acme.tenant_id)]

    use(session, acme, 7, END - HOUR)
    note(session, acme, final(), now=KNOWN)
    push_all(session, acme, FakeStripe(), now=KNOWN)
    look(session, acme)
    assert stuck() == ["unsendable"]
    [row] = proposals(session, acme)
    decide(session, row, "approved", "write_off")
    look(session, acme, KNOWN + MINUTE)
    assert stuck() == []
    # Looked at again by a push job, it is as decided as before.
    with unit_of_work(session):
        again = "cus_1", "api_calls"
        assert unsent.mark(session, acme.tenant_id, *again, since=START, now=KNOWN + MINUTE)
    push_all(session, acme, FakeStripe(), now=KNOWN + 3 * MINUTE)
    assert stuck() == []


def test_of_a_shared_place_the_one_who_used_it_is_named(session: Session, acme: Connected) -> None:
    """Two metrics on one meter of one customer: hours tell whose it is, and where they do not, the
    note does."""
    add_mapping(session, acme, metric="more_calls", meter_event_name="api_calls")
    life.add_period(session, acme, START, END, metric="more_calls")
    use(session, acme, 3, END - 2 * HOUR)
    use(session, acme, 4, END - HOUR, metric="more_calls")
    note(session, acme, final(), now=KNOWN)
    push_all(session, acme, FakeStripe(), now=KNOWN)
    look(session, acme)
    made = {row.metric: row for row in proposals(session, acme)}
    assert {metric: row.delta for metric, row in made.items()} == {"api_calls": 3, "more_calls": 4}
    assert all(row.note and "shared" not in row.note for row in made.values())


def test_where_it_cannot_be_told_the_note_says_so(session: Session, acme: Connected) -> None:
    add_mapping(session, acme, metric="more_calls", meter_event_name="api_calls")
    life.add_period(session, acme, START, END, metric="more_calls")
    use(session, acme, 3, END - HOUR)
    use(session, acme, 4, END - HOUR, metric="more_calls")
    push_all(session, acme, FakeStripe(), now=LATE)
    note(session, acme, final(), now=KNOWN)
    [row] = proposals(session, acme)
    assert (row.metric, row.delta) == ("api_calls", 7)
    assert row.note is not None
    assert "shared with more_calls of cus_1" in row.note


def test_a_shadow_that_nobody_pays_is_no_decision(session: Session, acme: Connected) -> None:
    """The tenant is live, the item a test's: nothing is proposed; to a test tenant it matters."""
    use(session, acme, 7, END - HOUR)
    push_all(session, acme, FakeStripe(), now=LATE)
    with unit_of_work(session):
        session.execute(
            update(Tenant).where(Tenant.tenant_id == acme.tenant_id).values(mode="test")
        )
    note(session, acme, final(), now=KNOWN)
    look(session, acme)
    assert proposals(session, acme) == []


def test_nothing_of_another_tenants_is_proposed(session: Session, acme: Connected) -> None:
    other = connect(session, now=START)
    pushed_late(session, acme)
    look(session, other)
    assert proposals(session, other) == []
    assert len(proposals(session, acme)) == 1


def test_the_comparison_does_not_call_it_agreed(session: Session, acme: Connected) -> None:
    """Until somebody has decided."""

    def compared() -> tuple[str, str, Decimal]:
        session.rollback()
        [row] = shadow.every(session, acme.tenant_id, calendar_month(END))
        return row.verdict, row.live.state, row.live.unbilled

    use(session, acme, 7, END - HOUR)
    push_all(session, acme, FakeStripe(), now=LATE)
    assert compared() == ("agrees", "equal", 0)
    note(session, acme, final(), now=KNOWN)
    assert compared() == ("differs", "unbilled", 7)
    decide(session, proposals(session, acme)[0], "approved", "credit_note")
    assert compared() == ("agrees", "equal", 0)


def test_of_a_shared_place_the_one_who_is_credited_is_named(
    session: Session, acme: Connected
) -> None:
    """An hour without events, in which a decision counts."""
    add_mapping(session, acme, metric="more_calls", meter_event_name="api_calls")
    life.add_period(session, acme, START, END, metric="more_calls")
    use(session, acme, 3, START + HOUR)
    use(session, acme, 4, START + 2 * HOUR, metric="more_calls")
    wanted = Wanted("cus_1", "more_calls", Decimal(5), "correction", START)
    with unit_of_work(session):
        adjustments.create(session, acme.tenant_id, "adj_1", wanted, actor="me", now=END)
        deciding.approve(session, acme.tenant_id, "adj_1", actor="me", now=END)
    push_all(session, acme, FakeStripe(), now=LATE)
    note(session, acme, final(), now=KNOWN)
    made = {row.metric: row for row in proposals(session, acme) if row.origin == "unbilled"}
    assert {metric: row.delta for metric, row in made.items()} == {"api_calls": 3, "more_calls": 9}
