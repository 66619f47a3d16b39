"""Billing periods follow the subscription items, in whatever order things become known."""

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from metering.catalog import customers, mappings
from metering.catalog.models import BillingPeriod
from metering.database import unit_of_work
from metering.stripe import accounts, schedules, sync
from metering.stripe.sync import Place
from tests.stripe_objects import JULY, JUNE, MAY, customer, item, meter, price, subscription
from tests.support import entry, fold_all, put

MID_MAY = datetime(2026, 5, 11, 10, 30, tzinfo=UTC)
JUNE_15 = datetime(2026, 6, 15, tzinfo=UTC)


@pytest.fixture
def place(session: Session, tenant: str, now: datetime) -> Place:
    """A test tenant's account."""
    account_id = f"acct_{tenant[2:18].replace('-', '')}"
    with unit_of_work(session):
        accounts.bind(session, tenant, account_id, bound_by="test", now=now)
    return Place(tenant, "test", account_id)


class World:
    """What becomes known, one thing at a time."""

    def __init__(self, session: Session, place: Place) -> None:
        self.session, self.place, self.at = session, place, MID_MAY

    def meter(self, *given: Any, **changes: Any) -> None:
        self._note(sync.note_meters, meter(*given, **changes))

    def price(self, *given: Any, **changes: Any) -> None:
        self._note(sync.note_prices, price(*given, **changes))

    def subscribed(self, *items: Any, **changes: Any) -> None:
        self._note(sync.note_subscriptions, subscription(*items, **changes))

    def customer(self, *given: Any, **changes: Any) -> None:
        self._note(sync.note_customers, customer(*given, **changes))

    def mapped(self, metric: str = "calls", **wanted: Any) -> str:
        given = {"metric": metric, "meter_event_name": "calls", "is_shadow": True} | wanted
        with unit_of_work(self.session):
            made = mappings.create(
                self.session, self.place.tenant_id, mappings.id_of(None), given, now=MAY
            )
            schedules.apply_for_metric(self.session, self.place.tenant_id, metric, now=self.at)
        return made.mapping_id

    def told(self, ref: str, **changes: Any) -> None:
        with unit_of_work(self.session):
            customers.edit(self.session, self.place.tenant_id, ref, changes, now=self.at)
            schedules.apply_for_customer(self.session, self.place.tenant_id, ref, now=self.at)

    def _note(self, write: Any, made: Any) -> None:
        with unit_of_work(self.session):
            write(self.session, self.place, [made], now=self.at)

    def periods(self, metric: str = "calls") -> list[tuple[str, datetime, datetime, str]]:
        """(customer, start, end, item) of what ends by the first of July."""
        self.session.rollback()
        rows = self.session.query(BillingPeriod).filter_by(
            tenant_id=self.place.tenant_id, metric=metric
        )
        return sorted(
            (
                row.customer_ref,
                row.start_at.astimezone(UTC),
                row.end_at.astimezone(UTC),
                row.item_id,
            )
            for row in rows
            if row.end_at <= JULY
        )

    def unsent(self) -> list[tuple[str, bool]]:
        rows = self.session.execute(
            text("SELECT customer_ref, is_urgent FROM unsent WHERE tenant_id = :t"),
            {"t": self.place.tenant_id},
        ).all()
        self.session.rollback()
        return sorted((row[0], row[1]) for row in rows)


@pytest.fixture
def world(session: Session, place: Place) -> World:
    return World(session, place)


TWO_MONTHS = [("ann", MAY, JUNE, "si_1"), ("ann", JUNE, JULY, "si_1")]


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_the_order_in_which_things_become_known_does_not_matter(
    world: World, order: tuple[int, ...]
) -> None:
    steps = (
        world.meter,
        world.subscribed,
        lambda: world.customer("cus_1", "ann"),
        world.mapped,
    )
    for number in order:
        steps[number]()
    assert [row for row in world.periods() if row[0] == "ann"] == TWO_MONTHS


def test_a_mapping_by_price_leads_to_the_prices_meter(world: World) -> None:
    world.meter()
    world.subscribed()
    world.told("ann", shadow_stripe_customer_id="cus_1")
    world.mapped(meter_event_name=None, shadow_price_id="price_1")
    assert world.periods() == []
    world.price()
    assert world.periods() == TWO_MONTHS


def test_who_is_who_may_be_told_later_and_told_otherwise(world: World) -> None:
    world.meter()
    world.mapped()
    world.subscribed()
    world.told("ann", shadow_stripe_customer_id="cus_1")
    assert {row[0] for row in world.periods()} == {"cus_1", "ann"}


def test_an_immediate_cancellation_ends_the_period_and_flushes_it(
    world: World, session: Session
) -> None:
    world.meter()
    world.mapped()
    world.told("ann", stripe_customer_id="cus_1")
    world.subscribed()
    put(session, world.place.tenant_id, [entry("e", 3, MAY, metric="calls", customer="ann")])
    fold_all(session, world.place.tenant_id)
    end = MID_MAY + timedelta(hours=1)
    world.at = end + timedelta(seconds=2)
    world.subscribed(status="canceled", canceled_at=end, ended_at=end)
    assert world.periods()[0] == ("ann", MAY, end, "si_1")
    assert ("ann", True) in world.unsent()


def test_a_trial_is_a_period_and_a_pause_changes_nothing(world: World) -> None:
    world.meter()
    world.mapped()
    world.told("ann", stripe_customer_id="cus_1")
    trial = item(start=MAY, end=JUNE_15)
    world.subscribed(trial, status="trialing", trial_end=JUNE_15, anchor_at=JUNE_15)
    assert world.periods() == [("ann", MAY, JUNE_15, "si_1")]
    world.at += timedelta(minutes=1)
    world.subscribed(trial, status="trialing", trial_end=JUNE_15, anchor_at=JUNE_15, is_paused=True)
    assert world.periods() == [("ann", MAY, JUNE_15, "si_1")]


def test_a_price_that_changes_cuts_the_period(world: World) -> None:
    world.meter()
    world.mapped()
    world.told("ann", stripe_customer_id="cus_1")
    world.subscribed()
    world.at += timedelta(minutes=5)
    world.subscribed(item("si_1", price("price_2")))
    cut = [("ann", MAY, world.at, "si_1"), ("ann", world.at, JUNE, "si_1"), TWO_MONTHS[1]]
    assert world.periods() == cut
    world.at += timedelta(minutes=5)
    world.subscribed(item("si_1", price("price_2")), metadata={"note": "nothing new"})
    assert world.periods() == cut


@pytest.mark.parametrize("aggregation", ["max", "last"])
def test_a_price_that_changes_does_not_bill_a_level_twice(world: World, aggregation: str) -> None:
    """Fifty seats of two periods would be fifty at the old price and fifty at the new."""
    world.meter()
    world.mapped(aggregation=aggregation)
    world.told("ann", stripe_customer_id="cus_1")
    world.subscribed()
    world.at += timedelta(minutes=5)
    world.subscribed(item("si_1", price("price_2")))
    assert world.periods() == TWO_MONTHS


def test_two_items_on_one_meter_are_a_conflict_and_the_first_has_the_say(
    world: World, session: Session
) -> None:
    world.meter()
    world.mapped()
    world.told("ann", stripe_customer_id="cus_1")
    world.subscribed()
    second = item("si_2", start=MID_MAY, end=MID_MAY.replace(month=6), created=MID_MAY)
    world.subscribed(second, id="sub_2", anchor_at=MID_MAY, started_at=MID_MAY)
    assert world.periods() == TWO_MONTHS
    asked = (world.place.tenant_id, "test", world.place.account_id, "cus_1", "mtr_1")
    assert schedules.conflict(session, *asked) == ["si_1", "si_2"]
    world.at = JUNE_15
    world.subscribed(status="canceled", ended_at=JUNE_15, canceled_at=JUNE_15)
    assert schedules.conflict(session, *asked) == []
    assert world.periods() == [TWO_MONTHS[0], ("ann", JUNE, JUNE_15, "si_1")]


def test_shadow_items_do_not_draw_a_live_tenants_periods(world: World, session: Session) -> None:
    with unit_of_work(session):
        session.execute(
            text("UPDATE tenants SET mode = 'live' WHERE tenant_id = :t"),
            {"t": world.place.tenant_id},
        )
    world.meter()
    world.told("ann", shadow_stripe_customer_id="cus_1")
    mapping_id = world.mapped(is_active=True)
    world.subscribed()
    assert world.periods() == []
    with unit_of_work(session):
        mappings.edit(
            session, world.place.tenant_id, mapping_id, {"is_active": False}, now=world.at
        )
        schedules.apply_for_metric(session, world.place.tenant_id, "calls", now=world.at)
    assert world.periods() == TWO_MONTHS
