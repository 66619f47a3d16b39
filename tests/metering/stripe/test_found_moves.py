"""Customers who become others of Stripe's: found by a review that looked for double bills."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.catalog import customers
from metering.catalog.models import BillingPeriod
from metering.database import unit_of_work
from metering.stripe import sync
from metering.stripe.models import Unsendable
from metering.stripe.sync import Place
from tests.metering.stripe.conftest import AT
from tests.metering.stripe.test_deltas import NOON, use
from tests.metering.stripe.test_found_holding import told
from tests.stripe_objects import item, price, subscription
from tests.stripe_setup import (
    Connected,
    FakeStripe,
    add_mapping,
    add_meter,
    connect,
    push_all,
)

HOUR = timedelta(hours=1)


@pytest.mark.parametrize("aggregation", ["sum", "count", "max", "last", "unique"])
def test_another_customer_of_stripes_takes_over_all_that_is_open(
    session: Session, stripe: FakeStripe, aggregation: str
) -> None:
    acme = connect(session, now=AT)
    add_meter(session, acme, "seats")
    add_mapping(session, acme, "seats", aggregation=aggregation)
    told(session, acme, "globex", now=AT, stripe_customer_id="cus_a")
    use(
        session,
        acme,
        (3, NOON - 2 * HOUR),
        (4, NOON - HOUR),
        customer="globex",
        metric="seats",
        resources=("a", "b"),
    )
    later = push_all(session, acme, stripe, now=AT)
    before = stripe.total("cus_a", "seats")
    assert before > 0
    told(session, acme, "globex", now=later, stripe_customer_id="cus_b")
    later = push_all(session, acme, stripe, now=later)
    assert (stripe.total("cus_a", "seats"), stripe.total("cus_b", "seats")) == (0, before)


@pytest.mark.parametrize("aggregation", ["max", "last", "unique"])
def test_usage_after_a_move_leaves_nothing_behind(
    session: Session, stripe: FakeStripe, aggregation: str
) -> None:
    """The next event alone, without anybody's hint, must not bill two customers for one period."""
    acme = connect(session, now=AT)
    add_meter(session, acme, "seats")
    add_mapping(session, acme, "seats", aggregation=aggregation)
    told(session, acme, "globex", now=AT, stripe_customer_id="cus_a")
    use(session, acme, (3, NOON - HOUR), customer="globex", metric="seats", resources=("a",))
    later = push_all(session, acme, stripe, now=AT)
    with unit_of_work(session):
        customers.edit(
            session, acme.tenant_id, "globex", {"stripe_customer_id": "cus_b"}, now=later
        )
    use(session, acme, (4, NOON), customer="globex", metric="seats", resources=("b",))
    push_all(session, acme, stripe, now=later)
    assert stripe.total("cus_a", "seats") == 0
    assert stripe.total("cus_b", "seats") == {"max": 4, "last": 4, "unique": 2}[aggregation]


def subscribe(
    session: Session, acme: Connected, meter: str, start: datetime, end: datetime, **changes: object
) -> None:
    """What a webhook would note: a subscription on the meter, anchored where its period began."""
    billed = item("si_1", price(meter_id=f"mtr_{meter}_live"), start=start, end=end, created=start)
    told = subscription(billed, anchor_at=start, started_at=start, created_at=start, **changes)
    place = Place(acme.tenant_id, "live", acme.account_id)
    with unit_of_work(session):
        sync.note_subscriptions(session, place, [told], now=AT)


@pytest.mark.parametrize(
    ("aggregation", "before", "after"),
    [("sum", 4, 4), ("max", 2, 4), ("last", 2, 4), ("unique", 0, 1)],
)
def test_a_period_that_moves_is_billed_once_where_the_mapping_began_within_it(
    session: Session, stripe: FakeStripe, aggregation: str, before: int, after: int
) -> None:
    """What was pushed of the calendar month is of no period any more, and no mapping holds at its
    start."""
    acme = connect(session, now=AT)
    add_meter(session, acme, "seats")
    add_mapping(session, acme, "seats", aggregation=aggregation, effective_from=NOON - HOUR)
    early = datetime(2026, 11, 3, tzinfo=UTC)
    use(session, acme, (2, early), (4, NOON), metric="seats", resources=("a", "a"))
    later = push_all(session, acme, stripe, now=AT)
    assert stripe.total(event_name="seats") == before
    start, end = datetime(2026, 11, 5, tzinfo=UTC), datetime(2026, 12, 5, tzinfo=UTC)
    subscribe(session, acme, "seats", start, end)
    push_all(session, acme, stripe, now=later)
    assert stripe.total(event_name="seats") == after


@pytest.mark.parametrize(
    ("aggregation", "before", "after"),
    [("sum", 13, 13), ("max", 9, 13), ("last", 4, 13), ("unique", 2, 2)],
)
def test_a_month_that_falls_apart_is_billed_by_its_new_periods(
    session: Session, stripe: FakeStripe, aggregation: str, before: int, after: int
) -> None:
    acme = connect(session, now=AT)
    add_meter(session, acme, "seats")
    add_mapping(session, acme, "seats", aggregation=aggregation)
    early = datetime(2026, 11, 3, tzinfo=UTC)
    use(session, acme, (9, early), (4, NOON), metric="seats", resources=("a", "b"))
    later = push_all(session, acme, stripe, now=AT)
    assert stripe.total(event_name="seats") == before
    start, end = datetime(2026, 11, 5, tzinfo=UTC), datetime(2026, 12, 5, tzinfo=UTC)
    subscribe(session, acme, "seats", start, end)
    later = push_all(session, acme, stripe, now=later)
    assert stripe.total(event_name="seats") == after
    # It ends at once: what is used by then is billed, and what comes later is of another period.
    ended = AT + timedelta(minutes=5)
    subscribe(
        session, acme, "seats", start, end, status="canceled", ended_at=ended, canceled_at=ended
    )
    push_all(session, acme, stripe, now=later)
    assert stripe.total(event_name="seats") == after


def test_what_a_final_invoice_has_billed_stays_with_the_customer_who_paid_it(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    told(session, acme, "globex", now=AT, stripe_customer_id="cus_a")
    final = NOON - timedelta(days=2)
    with unit_of_work(session):
        session.add(
            BillingPeriod(
                tenant_id=acme.tenant_id,
                customer_ref="globex",
                metric="api_calls",
                start_at=final - timedelta(days=30),
                end_at=final,
                mode="live",
                item_id="si_1",
            )
        )
    use(session, acme, (3, final - HOUR), (4, NOON), customer="globex")
    later = push_all(session, acme, stripe, now=AT)
    with unit_of_work(session):
        session.scalars(
            select(BillingPeriod).where(BillingPeriod.tenant_id == acme.tenant_id)
        ).one().final_at = later
    told(session, acme, "globex", now=later, stripe_customer_id="cus_b")
    push_all(session, acme, stripe, now=later)
    assert (stripe.total("cus_a"), stripe.total("cus_b")) == (3, 4)
    assert session.scalars(select(Unsendable).filter_by(tenant_id=acme.tenant_id)).all() == []
