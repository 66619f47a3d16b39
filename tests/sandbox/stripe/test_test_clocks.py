"""Test clocks: the time of some customers, apart from all others'."""

import pytest
import stripe

from tests.sandbox.stripe.billing import amounts, at, bounds

FROZEN = at("2025-12-31 08:00:00")


@pytest.fixture
def clock(shop):
    return shop.v1.test_helpers.test_clocks.create({"frozen_time": FROZEN, "name": "Past"})


@pytest.fixture
def customer(shop, clock):
    return shop.customer(test_clock=clock.id)


def _advance(shop, clock, to):
    said = shop.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": to})
    assert said.status == "advancing"
    ready = shop.v1.test_helpers.test_clocks.retrieve(clock.id)
    assert (ready.status, ready.frozen_time) == ("ready", to)


def test_periods_roll_and_drafts_become_final_an_hour_later(shop, clock, customer):
    price = shop.metered(shop.meter(), unit_amount=2)
    made = shop.subscribe(customer, price)
    assert bounds(made["items"].data[0]) == ("2025-12-31 08:00:00", "2026-01-31 08:00:00")
    shop.use(customer, "10", FROZEN)
    _advance(shop, clock, at("2026-01-31 08:30:00"))
    (draft,) = shop.invoices(customer)
    assert (draft.status, draft.created) == ("draft", at("2026-01-31 08:00:00"))
    shop.use(customer, "5", at("2026-01-31 07:59:59"))
    _advance(shop, clock, at("2026-01-31 09:00:00"))
    (final,) = shop.invoices(customer)
    assert (final.status, amounts(final), final.test_clock) == ("paid", [30], clock.id)
    again = shop.v1.subscriptions.retrieve(made.id)
    assert bounds(again["items"].data[0])[1] == "2026-02-28 08:00:00"


def test_an_advance_of_three_months_makes_three_invoices(shop, clock, customer):
    for cents in (1, 2):
        shop.subscribe(customer, shop.price(unit_amount=cents, recurring={"interval": "month"}))
    _advance(shop, clock, at("2026-04-01"))
    invoices = shop.invoices(customer)
    assert len(invoices) == 2 + 6
    assert {each.status for each in invoices} == {"paid"}
    told = [each for each in shop.events() if each[0] == "invoice.finalized"][2:]
    assert [instant for _, instant in told] == [
        each + 3600
        for each in map(at, ("2026-01-31 08:00", "2026-02-28 08:00", "2026-03-31 08:00"))
        for _ in range(2)
    ]


def test_the_others_live_by_the_stand_ins_clock(shop, clock, customer):
    other = shop.customer()
    monthly = shop.price(unit_amount=5, recurring={"interval": "month"})
    for each in (customer, other):
        shop.subscribe(each, monthly)
    shop.world.advance_to(at("2026-03-01"))
    assert [len(shop.invoices(each)) for each in (customer, other)] == [1, 2]
    _advance(shop, clock, at("2026-03-01 12:00:00"))
    assert [len(shop.invoices(each)) for each in (customer, other)] == [3, 2]


def test_a_clock_goes_forward_only(shop, clock):
    with pytest.raises(stripe.InvalidRequestError, match="later"):
        shop.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": FROZEN})


def test_a_deleted_clock_takes_its_customers_along(shop, clock, customer):
    made = shop.subscribe(customer, shop.price(unit_amount=5, recurring={"interval": "month"}))
    assert [each.id for each in shop.v1.customers.list({"test_clock": clock.id})] == [customer.id]
    assert shop.v1.test_helpers.test_clocks.delete(clock.id).id == clock.id
    assert shop.v1.customers.retrieve(customer.id).deleted
    assert shop.v1.subscriptions.retrieve(made.id).status == "canceled"
    assert shop.v1.test_helpers.test_clocks.list().data == []
