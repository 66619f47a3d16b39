"""An invoice tells its periods when they close, when to send what is left, and when all is over."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from metering.catalog import metrics
from metering.catalog.mirror import StripeInvoice, SubscriptionItem
from metering.catalog.models import BillingPeriod
from metering.counters import fold
from metering.database import unit_of_work
from metering.stripe import invoices
from metering.stripe.answers import Invoice, InvoiceLine
from metering.stripe.models import Unsendable, Unsent
from metering.stripe.sync import Place
from tests.stripe_setup import (
    Connected,
    FakeStripe,
    add_mapping,
    add_meter,
    connect,
    push_all,
)
from tests.support import entry, put

START = datetime(2026, 10, 15, 10, 23, 45, tzinfo=UTC)
END = datetime(2026, 11, 15, 10, 23, 45, tzinfo=UTC)
DRAFTED = END + timedelta(minutes=1)
FINALIZES = END + timedelta(hours=1)
TWO_DAYS, QUARTER, MINUTE = timedelta(hours=48), timedelta(minutes=15), timedelta(minutes=1)


@pytest.fixture
def acme(session: Session) -> Connected:
    """A tenant with one item on one meter, and its period and the one after it."""
    made = connect(session, now=START)
    meter_id = add_meter(session, made, "api_calls")
    add_mapping(session, made)
    with unit_of_work(session):
        session.add(
            SubscriptionItem(
                tenant_id=made.tenant_id, mode="live", account_id=made.account_id,
                item_id="si_1", subscription_id="sub_1", stripe_customer="cus_1",
                price_id="price_1", meter_id=meter_id, status="active", interval="month",
                interval_count=1, anchor_at=START, current_start=START, current_end=END,
                started_at=START, fetched_at=START,
            )
        )  # fmt: skip
    add_period(session, made, START, END)
    add_period(session, made, END, END + timedelta(days=30))
    return made


def add_period(
    session: Session, acme: Connected, start: datetime, end: datetime, **changes: Any
) -> None:
    values = {"customer_ref": "cus_1", "metric": "api_calls", "item_id": "si_1", "mode": "live"}
    with unit_of_work(session):
        session.add(
            BillingPeriod(
                tenant_id=acme.tenant_id, start_at=start, end_at=end, **(values | changes)
            )
        )


def place(acme: Connected, mode: str = "live") -> Place:
    return Place(acme.tenant_id, mode, acme.account_id)


def line(item_id: str, start: datetime, end: datetime) -> InvoiceLine:
    return InvoiceLine(
        id="il_1", amount=0, currency="usd", quantity=Decimal(0), unit_amount=None,
        description=None, start_at=start, end_at=end, price_id=None, product_id=None,
        item_id=item_id, subscription_id="sub_1", is_proration=False, json={},
    )  # fmt: skip


def invoice(**changes: Any) -> Invoice:
    """The draft of the first period, an hour before it is finalized."""
    values: dict[str, Any] = {
        "id": "in_1", "customer_id": "cus_1", "subscription_id": "sub_1", "status": "draft",
        "billing_reason": "subscription_cycle", "currency": "usd", "subtotal": 0, "total": 0,
        "period_start": START, "period_end": END, "created_at": END, "finalizes_at": FINALIZES,
        "finalized_at": None, "auto_advance": True, "lines": (), "json": {},
    }  # fmt: skip
    return Invoice(**(values | changes))


def final(at: datetime = FINALIZES, **changes: Any) -> Invoice:
    return invoice(**{"status": "open", "finalizes_at": None, "finalized_at": at} | changes)


def note(
    session: Session,
    acme: Connected,
    *told: Invoice,
    now: datetime = DRAFTED,
    asked_at: datetime | None = None,
    mode: str = "live",
) -> int:
    with unit_of_work(session):
        return invoices.note(session, place(acme, mode), told, asked_at=asked_at or now, now=now)


def periods(session: Session, acme: Connected) -> list[BillingPeriod]:
    session.rollback()
    statement = select(BillingPeriod).where(BillingPeriod.tenant_id == acme.tenant_id)
    return list(
        session.scalars(
            statement.order_by(BillingPeriod.start_at).execution_options(populate_existing=True)
        )
    )


def use(
    session: Session, acme: Connected, quantity: int, at: datetime, *, recorded: datetime
) -> None:
    put(session, acme.tenant_id, [entry(f"{quantity}-{at}", quantity, at)], now=recorded)


def fold_now(session: Session, acme: Connected, at: datetime) -> None:
    with unit_of_work(session):
        fold.fold(session, acme.tenant_id, now=at)


def unsent(session: Session, acme: Connected) -> list[tuple[datetime, bool]]:
    rows = session.execute(
        select(Unsent.segment_start, Unsent.is_urgent)
        .where(Unsent.tenant_id == acme.tenant_id)
        .order_by(Unsent.segment_start)
    ).all()
    session.rollback()
    return [(row[0], row[1]) for row in rows]


def test_a_draft_brings_the_closing_forward_to_a_quarter_before_it_is_final(
    session: Session, acme: Connected
) -> None:
    assert note(session, acme, invoice()) == 1
    first, second = periods(session, acme)
    assert (first.invoice_id, first.closes_at) == ("in_1", FINALIZES - QUARTER)
    assert (first.final_at, first.closed_at) == (None, None)
    assert (second.invoice_id, second.closes_at) == (None, None)


def test_a_draft_that_waits_long_closes_when_lateness_is_over(
    session: Session, acme: Connected
) -> None:
    note(session, acme, invoice(finalizes_at=END + timedelta(hours=72)))
    assert periods(session, acme)[0].closes_at == END + TWO_DAYS
    note(session, acme, invoice(finalizes_at=None), now=DRAFTED + MINUTE)
    assert periods(session, acme)[0].closes_at == END + TWO_DAYS


def test_lateness_is_the_metrics_own(session: Session, acme: Connected) -> None:
    with unit_of_work(session):
        metrics.edit(session, acme.tenant_id, "api_calls", {"lateness_seconds": 600}, now=START)
    note(session, acme, invoice())
    assert periods(session, acme)[0].closes_at == END + timedelta(seconds=600)


def test_a_closing_is_moved_only_to_what_lies_ahead(session: Session, acme: Connected) -> None:
    late = FINALIZES - MINUTE
    note(session, acme, invoice(), now=late)
    assert periods(session, acme)[0].closes_at == late + MINUTE
    # What lies behind us is not moved any more, whatever Stripe says now.
    later = late + timedelta(minutes=5)
    note(session, acme, invoice(finalizes_at=FINALIZES + TWO_DAYS), now=later)
    assert periods(session, acme)[0].closes_at == late + MINUTE


def test_a_closing_that_lies_ahead_follows_stripe(session: Session, acme: Connected) -> None:
    note(session, acme, invoice())
    note(session, acme, invoice(finalizes_at=FINALIZES + timedelta(hours=5)), now=DRAFTED + MINUTE)
    assert periods(session, acme)[0].closes_at == FINALIZES + timedelta(hours=5) - QUARTER


def test_an_older_answer_changes_nothing(session: Session, acme: Connected) -> None:
    assert note(session, acme, final(), now=FINALIZES) == 1
    assert note(session, acme, invoice(), now=FINALIZES + MINUTE, asked_at=DRAFTED) == 0
    assert periods(session, acme)[0].final_at == FINALIZES
    row = session.scalars(
        select(StripeInvoice).where(StripeInvoice.tenant_id == acme.tenant_id)
    ).one()
    assert row.status == "open"


def test_a_draft_sends_what_is_left_of_its_period_at_once_and_only_that(
    session: Session, acme: Connected
) -> None:
    stripe = FakeStripe()
    use(session, acme, 3, END - timedelta(hours=2), recorded=END - timedelta(hours=1))
    use(session, acme, 4, END + timedelta(seconds=5), recorded=END + timedelta(seconds=6))
    fold_now(session, acme, DRAFTED)
    push_all(session, acme, stripe, now=DRAFTED)
    assert unsent(session, acme) == []
    note(session, acme, invoice())
    assert unsent(session, acme) == [(datetime(2026, 11, 15, 8, tzinfo=UTC), True)]
    push_all(session, acme, stripe, now=DRAFTED)
    # Told again of the same draft there is nothing to hurry for.
    note(session, acme, invoice(), now=DRAFTED + MINUTE)
    assert unsent(session, acme) == []


def test_a_final_invoice_closes_its_period_for_good(session: Session, acme: Connected) -> None:
    known = FINALIZES + timedelta(minutes=3)
    note(session, acme, invoice())
    assert note(session, acme, final(), now=known) == 1
    first, second = periods(session, acme)
    assert (first.invoice_id, first.final_at, first.closed_at) == ("in_1", FINALIZES, known)
    assert first.closes_at == FINALIZES - QUARTER
    assert (second.final_at, second.closed_at) == (None, None)
    note(session, acme, final(status="paid"), now=known + MINUTE)
    note(session, acme, final(status="void"), now=known + 2 * MINUTE)
    assert periods(session, acme)[0].closed_at == known


def test_a_final_invoice_that_comes_first_needs_no_draft(session: Session, acme: Connected) -> None:
    known = END + timedelta(minutes=5)
    note(session, acme, final(END + MINUTE), now=known)
    first = periods(session, acme)[0]
    assert (first.closes_at, first.closed_at, first.final_at) == (known, known, END + MINUTE)


def test_what_had_come_by_then_counts_and_what_comes_later_is_set_aside(
    session: Session, acme: Connected
) -> None:
    known = FINALIZES + timedelta(minutes=3)
    use(session, acme, 3, END - timedelta(hours=2), recorded=END - timedelta(hours=1))
    note(session, acme, final(), now=known)
    counted = text("SELECT sum_value FROM counters WHERE tenant_id = :t")
    assert session.execute(counted, {"t": acme.tenant_id}).scalars().all() == [3]
    session.rollback()
    use(session, acme, 5, END - timedelta(hours=2), recorded=known)
    fold_now(session, acme, known)
    assert session.execute(counted, {"t": acme.tenant_id}).scalars().all() == [3]
    aside = text("SELECT quantity FROM set_aside WHERE tenant_id = :t")
    assert session.execute(aside, {"t": acme.tenant_id}).scalars().all() == [5]
    session.rollback()


def test_what_stripe_had_not_heard_of_by_then_is_a_decision(
    session: Session, acme: Connected
) -> None:
    stripe, known = FakeStripe(), FINALIZES + timedelta(minutes=3)
    use(session, acme, 3, END - timedelta(hours=2), recorded=END - timedelta(hours=1))
    note(session, acme, final(), now=known)
    push_all(session, acme, stripe, now=known)
    assert stripe.calls == []
    (left,) = session.scalars(select(Unsendable).where(Unsendable.tenant_id == acme.tenant_id))
    assert (left.kind, left.quantity) == ("invoice_final", 3)


def test_lines_say_better_than_the_invoice_what_an_item_is_billed_for(
    session: Session, acme: Connected
) -> None:
    year = END - timedelta(days=365)
    yearly = invoice(period_start=year, period_end=END - timedelta(days=1))
    assert note(session, acme, yearly) == 0
    told = invoice(period_start=year, lines=(line("si_1", START, END), line("si_2", year, START)))
    assert note(session, acme, told, now=DRAFTED + MINUTE) == 1


def test_an_invoice_of_no_subscription_is_of_no_period(session: Session, acme: Connected) -> None:
    assert note(session, acme, final(subscription_id=None)) == 0
    assert note(session, acme, final(id="in_2", subscription_id="sub_2")) == 0
    # The first invoice of a subscription bills no usage.
    assert note(session, acme, final(id="in_3", period_start=START, period_end=START)) == 0
    assert [row.invoice_id for row in periods(session, acme)] == [None, None]


def test_another_mode_account_or_tenant_is_never_touched(session: Session, acme: Connected) -> None:
    assert note(session, acme, final(), mode="test") == 0
    assert note(session, Connected(acme.tenant_id, "acct_else"), final()) == 0
    other = connect(session, now=START)
    assert note(session, other, final()) == 0
    assert [row.final_at for row in periods(session, acme)] == [None, None]


def test_a_deleted_draft_leaves_its_period_to_another(session: Session, acme: Connected) -> None:
    note(session, acme, invoice())
    with unit_of_work(session):
        invoices.note_gone(session, place(acme), "in_1", asked_at=DRAFTED + MINUTE)
    assert periods(session, acme)[0].invoice_id is None
    note(session, acme, invoice(id="in_2"), now=DRAFTED + 2 * MINUTE)
    assert periods(session, acme)[0].invoice_id == "in_2"
    # What was read of it before it went is old.
    note(session, acme, invoice(), now=DRAFTED + 3 * MINUTE, asked_at=DRAFTED)
    assert periods(session, acme)[0].invoice_id == "in_2"


def test_what_is_final_cannot_be_deleted_nor_billed_again(
    session: Session, acme: Connected
) -> None:
    note(session, acme, final(), now=FINALIZES)
    with unit_of_work(session):
        invoices.note_gone(session, place(acme), "in_1", asked_at=FINALIZES + MINUTE)
    note(session, acme, final(id="in_2"), now=FINALIZES + 2 * MINUTE)
    first = periods(session, acme)[0]
    assert (first.invoice_id, first.final_at) == ("in_1", FINALIZES)


def test_periods_that_become_known_later_learn_of_their_invoice(
    session: Session, acme: Connected
) -> None:
    with unit_of_work(session):
        session.execute(
            text("DELETE FROM billing_periods WHERE tenant_id = :t"), {"t": acme.tenant_id}
        )
    assert note(session, acme, invoice()) == 0
    add_period(session, acme, START, END)
    add_period(session, acme, END, END + timedelta(days=30))
    with unit_of_work(session):
        assert invoices.apply_known(session, place(acme), "sub_1", now=DRAFTED + MINUTE) == 1
    first, second = periods(session, acme)
    assert (first.invoice_id, first.closes_at) == ("in_1", FINALIZES - QUARTER)
    assert second.closes_at == END + timedelta(days=30) + TWO_DAYS


def test_closings_are_planned_once_and_never_behind_us(session: Session, acme: Connected) -> None:
    long_ago = START - timedelta(days=200)
    add_period(session, acme, long_ago, long_ago + timedelta(days=30))
    with unit_of_work(session):
        invoices.apply_known(session, place(acme), "sub_1", now=END - MINUTE)
    assert [row.closes_at for row in periods(session, acme)] == [
        None,
        END + TWO_DAYS,
        END + timedelta(days=30) + TWO_DAYS,
    ]
    # A period that was drawn anew has forgotten when it closes; its draft has not.
    note(session, acme, invoice())
    with unit_of_work(session):
        session.execute(
            text("UPDATE billing_periods SET closes_at = NULL WHERE tenant_id = :t"),
            {"t": acme.tenant_id},
        )
        invoices.plan_closings(session, acme.tenant_id, ["si_1"], now=DRAFTED)
    assert periods(session, acme)[1].closes_at == FINALIZES - QUARTER
