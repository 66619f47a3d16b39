"""What Stripe said is written down: the newest answer stays, whatever the order."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.catalog.mirror import StripeCustomer, StripeMeter, StripePrice, SubscriptionItem
from metering.database import unit_of_work
from metering.stripe import sync
from metering.stripe.sync import Place
from tests.stripe_objects import JUNE, MAY, customer, item, meter, price, subscription

LATER = MAY + timedelta(days=9, microseconds=7)
LATEST = LATER + timedelta(seconds=1)


@pytest.fixture
def place(tenant: str) -> Place:
    return Place(tenant, "test", "acct_1")


@pytest.fixture
def note(session: Session, place: Place) -> Any:
    """Note objects in a transaction of its own, as asked for at an instant."""

    def do(*objects: Any, at: datetime = LATER) -> None:
        kinds = {
            "Meter": sync.note_meters,
            "Price": sync.note_prices,
            "Subscription": sync.note_subscriptions,
            "Customer": sync.note_customers,
        }
        with unit_of_work(session):
            kinds[type(objects[0]).__name__](session, place, objects, now=at)  # type: ignore[operator]

    return do


def found(session: Session, place: Place, model: Any) -> list[Any]:
    session.rollback()
    rows = select(model).where(model.tenant_id == place.tenant_id)
    return list(session.scalars(rows.execution_options(populate_existing=True)))


def test_an_older_answer_never_overwrites_a_newer_one(
    session: Session, place: Place, note: Any
) -> None:
    note(meter(is_active=False), at=LATEST)
    note(meter(is_active=True), at=LATER)
    [row] = found(session, place, StripeMeter)
    assert (row.is_active, row.fetched_at) == (False, LATEST)
    note(meter(is_active=True), at=LATEST)
    [row] = found(session, place, StripeMeter)
    assert row.is_active


def test_a_price_is_kept_as_we_read_it_or_with_the_reason_why_not(
    session: Session, place: Place, note: Any
) -> None:
    note(
        price(),
        price("price_2", billing_scheme="tiered", tiers_mode="volume"),
        price("price_3", custom_unit_amount={"minimum": 1}),
    )
    first, second, third = sorted(found(session, place, StripePrice), key=lambda p: p.price_id)
    assert first.definition["unitPrice"] == "0.05"
    assert (second.definition, third.definition) == (None, None)
    assert "tiers" in second.unreadable
    assert "chosen by the customer" in third.unreadable


def test_prices_never_read_are_named(session: Session, place: Place, note: Any) -> None:
    note(price("price_1"))
    made = subscription(item("si_1", price("price_1")), item("si_2", price("price_2")))
    assert sync.unknown_prices(session, place, [made]) == ["price_2"]


def test_only_metered_items_are_kept_and_a_removed_one_ends(
    session: Session, place: Place, note: Any
) -> None:
    licensed = price("price_9", None, recurring={"interval": "month", "usage_type": "licensed"})
    note(subscription(item("si_1"), item("si_2"), item("si_3", licensed)), at=LATER)
    note(subscription(item("si_2")), at=LATEST)
    rows = {row.item_id: row.ended_at for row in found(session, place, SubscriptionItem)}
    assert rows == {"si_1": LATEST, "si_2": None}


def test_a_subscription_that_is_gone_has_ended(session: Session, place: Place, note: Any) -> None:
    note(subscription())
    with unit_of_work(session):
        sync.note_gone(session, place, "subscription", "sub_1", now=LATEST)
    [row] = found(session, place, SubscriptionItem)
    assert (row.status, row.ended_at) == ("canceled", LATEST)


def test_what_began_with_the_subscription_began_when_it_was_backdated_to(
    session: Session, place: Place, note: Any
) -> None:
    made = subscription(item("si_1"), item("si_2", created=LATER), started_at=MAY.replace(month=2))
    note(made)
    rows = {row.item_id: row.started_at for row in found(session, place, SubscriptionItem)}
    assert rows == {"si_1": MAY.replace(month=2), "si_2": LATER}


def test_the_prices_an_item_had_are_kept_with_their_ends(
    session: Session, place: Place, note: Any
) -> None:
    note(subscription(item("si_1", price("price_1"))), at=MAY)
    note(subscription(item("si_1", price("price_2"))), at=LATER)
    renewed = item("si_1", price("price_3"), start=JUNE, end=JUNE.replace(month=7))
    note(subscription(renewed), at=JUNE + timedelta(hours=1))
    [row] = found(session, place, SubscriptionItem)
    assert row.past_prices == [
        {"until": LATER.replace(microsecond=0).isoformat(), "price_id": "price_1"},
        {"until": JUNE.isoformat(), "price_id": "price_2"},
    ]


def test_a_deleted_customer_stays_known_as_deleted(
    session: Session, place: Place, note: Any
) -> None:
    note(customer("cus_1", "ann"), customer("cus_2"), customer("cus_3", "x" * 256))
    note(customer("cus_1", is_deleted=True), at=LATEST)
    rows = {c.stripe_customer: (c.customer_ref, c.is_deleted)
            for c in found(session, place, StripeCustomer)}  # fmt: skip
    assert rows == {"cus_1": ("ann", True), "cus_2": (None, False), "cus_3": (None, False)}


def test_what_a_full_listing_does_not_show_has_gone(
    session: Session, place: Place, note: Any
) -> None:
    note(meter("mtr_1"), meter("mtr_2", "seats"))
    note(price("price_1"), price("price_2"))
    note(customer("cus_1"), customer("cus_2"))
    note(subscription(), subscription(item("si_2"), id="sub_2", customer="cus_2"))
    for each in (meter("mtr_1"), price("price_1"), customer("cus_1"), subscription()):
        note(each, at=LATEST)
    with unit_of_work(session):
        sync.finish_listing(session, place, listed_since=LATEST)
    gone = {
        *(m.meter_id for m in found(session, place, StripeMeter) if not m.is_active),
        *(p.price_id for p in found(session, place, StripePrice) if not p.is_active),
        *(c.stripe_customer for c in found(session, place, StripeCustomer) if c.is_deleted),
        *(i.item_id for i in found(session, place, SubscriptionItem) if i.ended_at is not None),
    }
    assert gone == {"mtr_2", "price_2", "cus_2", "si_2"}
