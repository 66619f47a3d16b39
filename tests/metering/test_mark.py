"""The mark changes with whatever a customer is shown, and with nothing that is others' usage."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from metering.billing import mark
from metering.catalog import customers, mappings, metrics
from metering.catalog.mirror import StripePrice, SubscriptionItem
from metering.catalog.models import BillingPeriod
from metering.counters import adjustments, deciding, unique, voids
from metering.counters.adjustments import Wanted
from metering.database import unit_of_work
from pricing.price import from_config
from tests.support import entry, fold_all, put

SEPTEMBER, OCTOBER, NOVEMBER, DECEMBER = (
    datetime(2026, month, 1, tzinfo=UTC) for month in (9, 10, 11, 12)
)
NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)


class Customer:
    """One customer of one tenant, and what may happen to it and around it."""

    def __init__(self, session: Session, tenant: str) -> None:
        self.session, self.tenant = session, tenant
        self.seen = self.mark()

    def mark(self, ref: str = "cus_1", *, now: datetime = NOW) -> str:
        with unit_of_work(self.session):
            return mark.of_customer(self.session, self.tenant, ref, now=now)

    def has_changed(self) -> bool:
        """Since it was last asked; asked twice, it says the same."""
        before, self.seen = self.seen, self.mark()
        assert self.mark() == self.seen
        return before != self.seen

    def use(self, name: str, ts: datetime = NOW, **of: Any) -> None:
        put(self.session, self.tenant, [entry(name, 1, ts, **of)], now=NOW)

    def fold(self) -> None:
        fold_all(self.session, self.tenant)

    def write(self, sql: str, **parameters: object) -> None:
        with unit_of_work(self.session):
            done = self.session.execute(text(sql), {"t": self.tenant} | parameters)
            assert getattr(done, "rowcount", 1)

    def map(self, **wanted: Any) -> str:
        price = from_config({"model": "per_unit", "currency": "usd", "unitPrice": "1"})
        given = {"metric": "api_calls", "effective_from": OCTOBER, "price": price}
        with unit_of_work(self.session):
            mapping_id = mappings.id_of(None)
            given |= {"currency": "usd"} | wanted
            mappings.create(self.session, self.tenant, mapping_id, given, now=OCTOBER)
        return mapping_id

    def bill(self, start_at: datetime, end_at: datetime, **more: Any) -> None:
        values = {"customer_ref": "cus_1", "metric": "api_calls", "item_id": "si_1"} | more
        with unit_of_work(self.session):
            self.session.add(
                BillingPeriod(
                    tenant_id=self.tenant, mode="test", start_at=start_at, end_at=end_at, **values
                )
            )  # fmt: skip

    def hear(self, price_id: str, item_id: str | None = None) -> None:
        """Stripe says of a price, and of an item that it is the item's."""
        of = {
            "tenant_id": self.tenant,
            "mode": "test",
            "account_id": "acct_1",
            "fetched_at": OCTOBER,
        }
        with unit_of_work(self.session):
            self.session.add(StripePrice(**of, price_id=price_id, currency="usd", is_active=True))
            if item_id is not None:
                self.session.add(
                    SubscriptionItem(
                        **of, item_id=item_id, subscription_id="sub_1", stripe_customer="cus_1",
                        price_id=price_id, status="active", interval="month", interval_count=1,
                        anchor_at=OCTOBER, current_start=NOVEMBER, current_end=DECEMBER,
                        started_at=OCTOBER, past_prices=[],
                    )
                )  # fmt: skip


@pytest.fixture
def cus_1(session: Session, tenant: str) -> Customer:
    """A customer with usage in this month and in the one before."""
    made = Customer(session, tenant)
    made.use("october", OCTOBER)
    made.use("first")
    made.fold()
    assert made.has_changed()
    return made


def test_an_event_changes_it_when_it_comes_and_when_it_is_counted(cus_1: Customer) -> None:
    for n, when in enumerate((NOW, NOVEMBER, OCTOBER)):
        cus_1.use(f"{n}", when)
        assert cus_1.has_changed()
        cus_1.fold()
        assert cus_1.has_changed()
    # What was known already is nothing new.
    cus_1.use("first")
    cus_1.fold()
    assert not cus_1.has_changed()


def test_the_first_event_of_a_metric_changes_it(cus_1: Customer) -> None:
    cus_1.use("new", metric="tokens")
    assert cus_1.has_changed()
    cus_1.fold()
    assert cus_1.has_changed()


def test_what_is_set_aside_changes_it(cus_1: Customer) -> None:
    with unit_of_work(cus_1.session):
        changes = {"late_policy": "age", "lateness_seconds": 0}
        metrics.edit(cus_1.session, cus_1.tenant, "api_calls", changes, now=NOW)
    assert cus_1.has_changed()
    for when in (NOVEMBER, OCTOBER):
        # Between two looks it came and was set aside: nothing waited when anyone looked.
        cus_1.use(f"late/{when}", when)
        cus_1.fold()
        assert cus_1.has_changed()


def test_a_dead_letter_changes_it(cus_1: Customer) -> None:
    cus_1.use("dead")
    assert cus_1.has_changed()
    cus_1.write("DELETE FROM unfolded WHERE tenant_id = :t")
    assert cus_1.has_changed()


def test_every_decision_changes_it(cus_1: Customer) -> None:
    """Also where no total changes: what is set aside is told, and so is what is decided of it."""
    session, tenant = cus_1.session, cus_1.tenant
    by: dict[str, Any] = {"actor": "me", "now": NOW}
    for act in (voids.void, voids.restore, voids.void):
        with unit_of_work(session):
            act(session, tenant, "first", reason="r", **by)
        assert cus_1.has_changed()
    with unit_of_work(session):
        voids.void(session, tenant, "first", reason="again", **by)
    assert not cus_1.has_changed()
    for disposition in ("apply", "carry_forward", "write_off"):
        with unit_of_work(session):
            wanted = Wanted("cus_1", "api_calls", Decimal(5), "credit", OCTOBER)
            made = adjustments.create(session, tenant, adjustments.id_of(None), wanted, **by)
            known = made.adjustment_id
        cus_1.has_changed()
        with unit_of_work(session):
            deciding.approve(session, tenant, known, disposition=disposition, **by)
        assert cus_1.has_changed()
        with unit_of_work(session):
            deciding.revert(session, tenant, known, **by)
        assert cus_1.has_changed()


def test_decisions_about_late_events_change_it(cus_1: Customer) -> None:
    session, tenant = cus_1.session, cus_1.tenant
    with unit_of_work(session):
        changes = {"late_policy": "age", "lateness_seconds": 0}
        metrics.edit(session, tenant, "api_calls", changes, now=NOW)
    cus_1.use("late", NOVEMBER)
    cus_1.fold()
    assert cus_1.has_changed()
    by: dict[str, Any] = {"actor": "me", "now": NOW}
    [found] = adjustments.page(session, tenant, adjustments.Filter())
    known = found.adjustment_id
    session.rollback()
    for take in (
        deciding.decline, deciding.approve, deciding.revert, deciding.approve
    ):  # fmt: skip
        with unit_of_work(session):
            take(session, tenant, known, **by)
        assert cus_1.has_changed()
    with unit_of_work(session):
        voids.void(session, tenant, "late", reason="r", **by)
    assert cus_1.has_changed()


def test_decisions_about_another_customer_do_not_change_it(cus_1: Customer) -> None:
    session, tenant = cus_1.session, cus_1.tenant
    cus_1.use("theirs", customer="cus_2")
    cus_1.fold()
    by: dict[str, Any] = {"actor": "me", "now": NOW}
    with unit_of_work(session):
        voids.void(session, tenant, "theirs", reason="r", **by)
        wanted = Wanted("cus_2", "api_calls", Decimal(5), "credit")
        made = adjustments.create(session, tenant, adjustments.id_of(None), wanted, **by)
        deciding.approve(session, tenant, made.adjustment_id, **by)
    assert not cus_1.has_changed()


def test_a_mapping_changes_it_when_made_edited_and_ended(cus_1: Customer) -> None:
    for wanted in ({}, {"customer_ref": "cus_1"}):
        mapping_id = cus_1.map(**wanted)
        assert cus_1.has_changed()
        price = from_config({"model": "per_unit", "currency": "usd", "unitPrice": "2"})
        with unit_of_work(cus_1.session):
            mappings.edit(cus_1.session, cus_1.tenant, mapping_id, {"price": price}, now=NOW)
        assert cus_1.has_changed()
        with unit_of_work(cus_1.session):
            mappings.end(cus_1.session, cus_1.tenant, mapping_id, now=NOW)
        assert cus_1.has_changed()


def test_another_customers_mapping_does_not_change_it(cus_1: Customer) -> None:
    cus_1.map(customer_ref="cus_2")
    assert not cus_1.has_changed()


@pytest.mark.parametrize(
    "changes",
    [
        {"display_name": "Calls"},
        {"unit": "calls"},
        {"aggregation": "max"},
        {"carry_over": True},
        {"unique_enabled": True},
    ],
)
def test_a_metric_that_is_edited_changes_it(cus_1: Customer, changes: dict[str, Any]) -> None:
    with unit_of_work(cus_1.session):
        metrics.edit(cus_1.session, cus_1.tenant, "api_calls", changes, now=NOW)
    assert cus_1.has_changed()
    with unit_of_work(cus_1.session):
        metrics.edit(cus_1.session, cus_1.tenant, "not used here", changes, now=NOW)
    assert not cus_1.has_changed()


def test_a_customer_who_is_renamed_changes_it(cus_1: Customer) -> None:
    for name in ("Ann", "Anna"):
        with unit_of_work(cus_1.session):
            customers.edit(cus_1.session, cus_1.tenant, "cus_1", {"name": name}, now=NOW)
        assert cus_1.has_changed()
        with unit_of_work(cus_1.session):
            customers.edit(cus_1.session, cus_1.tenant, "cus_2", {"name": name}, now=NOW)
        assert not cus_1.has_changed()


def test_a_billing_period_changes_it_when_told_edited_begun_and_over(cus_1: Customer) -> None:
    start_at, end_at = NOW + timedelta(hours=1), NOW + timedelta(days=30)
    cus_1.bill(start_at, end_at)
    assert cus_1.has_changed()
    cus_1.write("UPDATE billing_periods SET closes_at = end_at WHERE tenant_id = :t")
    assert cus_1.has_changed()
    just = timedelta(microseconds=1)
    for edge in (start_at, end_at):
        assert cus_1.mark(now=edge - just) != cus_1.mark(now=edge)
        assert cus_1.mark(now=edge) == cus_1.mark(now=edge + just)


def test_a_month_that_begins_changes_it(cus_1: Customer) -> None:
    just = timedelta(microseconds=1)
    assert cus_1.mark(now=DECEMBER - just) == cus_1.seen
    assert cus_1.mark(now=DECEMBER) != cus_1.seen


def test_prices_that_stripe_tells_change_it(cus_1: Customer) -> None:
    cus_1.map(price_id="price_mapped", price=None, currency=None)
    cus_1.bill(NOVEMBER, DECEMBER)
    assert cus_1.has_changed()
    again = "UPDATE stripe_prices SET fetched_at = fetched_at + interval '1 s' WHERE tenant_id = :t"
    cus_1.hear("price_mapped")
    assert cus_1.has_changed()
    cus_1.write(again)
    assert cus_1.has_changed()
    cus_1.hear("price_item", "si_1")
    assert cus_1.has_changed()
    cus_1.write(f"{again} AND price_id = 'price_item'")
    assert cus_1.has_changed()
    past = """[{"price_id": "price_past", "until": "2026-12-01T00:00:00+00:00"}]"""
    cus_1.write(
        "UPDATE subscription_items SET past_prices = CAST(:past AS jsonb) WHERE tenant_id = :t",
        past=past,
    )
    assert cus_1.has_changed()
    cus_1.hear("price_past")
    assert cus_1.has_changed()
    # Of no mapping and no item of the customer's.
    cus_1.hear("price_other", "si_other")
    assert not cus_1.has_changed()


def test_whose_an_item_is_changes_it(cus_1: Customer) -> None:
    cus_1.map(subscription_item_id="si_2")
    assert cus_1.has_changed()
    cus_1.bill(NOVEMBER, DECEMBER, customer_ref="cus_2", item_id="si_2")
    assert cus_1.has_changed()
    cus_1.bill(DECEMBER, DECEMBER + timedelta(days=31), customer_ref="cus_2", item_id="si_2")
    assert not cus_1.has_changed()


def test_what_an_earlier_period_hands_over_changes_it(session: Session, tenant: str) -> None:
    long_ago = Customer(session, tenant)
    long_ago.use("gauge", datetime(2025, 1, 1, tzinfo=UTC))
    long_ago.fold()
    assert long_ago.has_changed()
    long_ago.use("later gauge", datetime(2025, 1, 2, tzinfo=UTC))
    long_ago.fold()
    assert long_ago.has_changed()


def test_unique_counts_that_are_completed_change_it(cus_1: Customer) -> None:
    cus_1.use("with a resource", resource="r1")
    cus_1.fold()
    with unit_of_work(cus_1.session):
        metrics.edit(cus_1.session, cus_1.tenant, "api_calls", {"unique_enabled": True}, now=NOW)
    assert cus_1.has_changed()
    more = True
    while more:
        with unit_of_work(cus_1.session):
            more = unique.fill(cus_1.session, cus_1.tenant, "api_calls", now=NOW)
        assert cus_1.has_changed()


def test_a_tenant_that_goes_live_changes_it(cus_1: Customer) -> None:
    cus_1.write("UPDATE tenants SET mode = 'live' WHERE tenant_id = :t")
    assert cus_1.has_changed()


def test_neither_another_customers_usage_nor_another_tenants_changes_it(
    cus_1: Customer, stranger: str
) -> None:
    cus_1.bill(NOVEMBER, DECEMBER)
    assert cus_1.has_changed()
    for metric in ("api_calls", "a metric that nobody had"):
        cus_1.use(f"theirs/{metric}", customer="cus_2", metric=metric)
        assert not cus_1.has_changed()
        cus_1.fold()
        assert not cus_1.has_changed()
    other = Customer(cus_1.session, stranger)
    other.use("mine")
    assert (other.has_changed(), cus_1.has_changed()) == (True, False)
    other.fold()
    other.map()
    other.bill(NOVEMBER, DECEMBER)
    other.hear("price_1", "si_1")
    assert (other.has_changed(), cus_1.has_changed()) == (True, False)


def test_what_one_may_not_see_does_not_change_it(cus_1: Customer) -> None:
    """Who sees some metrics only is not told when another counts; of their own all is seen."""

    def of(*metrics: str) -> str:
        with unit_of_work(cus_1.session):
            return mark.of_customer(cus_1.session, cus_1.tenant, "cus_1", metrics, now=NOW)

    cus_1.use("a", metric="tokens")
    cus_1.fold()
    hidden = of("api_calls")
    cus_1.use("b", metric="tokens")
    assert of("api_calls") == hidden
    cus_1.fold()
    assert of("api_calls") == hidden
    cus_1.use("late", SEPTEMBER, metric="tokens")
    cus_1.fold()
    assert of("api_calls") == hidden
    seen = of("tokens", "api_calls")
    cus_1.use("c", metric="tokens")
    assert of("tokens", "api_calls") != seen
    cus_1.use("d")
    waiting = of("api_calls")
    assert waiting != hidden
    cus_1.fold()
    assert of("api_calls") != waiting


def test_of_two_transactions_the_one_that_began_first_and_ended_last_is_seen(
    cus_1: Customer, engine: Engine
) -> None:
    """The greatest transaction number of all rows is the second's, before and after."""
    cus_1.use("tokens", metric="tokens")
    cus_1.fold()
    touch = text(
        "UPDATE counters SET folded_at = folded_at"
        " WHERE tenant_id = :t AND metric = :m AND period_start >= '2026-11-01Z'"
    )
    with engine.connect() as first, engine.connect() as second:
        first.execute(touch, {"t": cus_1.tenant, "m": "api_calls"})
        second.execute(touch, {"t": cus_1.tenant, "m": "tokens"})
        second.commit()
        assert cus_1.has_changed()
        first.commit()
    assert cus_1.has_changed()


def test_the_transaction_goes_on_planning_as_usual(cus_1: Customer) -> None:
    names = re.findall(r"set_config\('(\w+)'", mark._PLAN)
    assert len(names) == 4

    def settings() -> list[str]:
        return [cus_1.session.scalars(text(f"SHOW {name}")).one() for name in names]

    before = settings()
    mark.of_customer(cus_1.session, cus_1.tenant, "cus_1", now=NOW)
    assert settings() == before


def test_a_long_backlog_of_others_is_not_searched_to_its_end(cus_1: Customer) -> None:
    """What comes behind so many is not shown as waiting; once it is, the mark changes."""
    theirs = [entry(f"theirs/{n}", 1, NOW, customer="cus_2") for n in range(300)]
    put(cus_1.session, cus_1.tenant, theirs, now=NOW - timedelta(seconds=1))
    cus_1.use("mine")
    assert not cus_1.has_changed()
    fold_all(cus_1.session, cus_1.tenant)
    assert cus_1.has_changed()
