"""Subscriptions of the stand-in: periods, changes of plan, trials, pauses and ends."""

import pytest
import stripe

from tests.sandbox.stripe.billing import amounts, at, bounds

START, MONTH_ONE = at("2026-01-15 10:23:45"), at("2026-02-15 10:23:45")
MONTH_TWO = at("2026-03-15 10:23:45")
MIDDLE = at("2026-02-01")


@pytest.fixture
def customer(shop):
    return shop.customer()


@pytest.fixture
def meter(shop):
    return shop.meter()


def _cents(shop, meter, cents):
    return shop.metered(meter, unit_amount=cents)


def test_the_period_is_the_items(shop, customer, meter):
    made = shop.subscribe(customer, shop.graduated(meter))
    (item,) = made["items"].data
    assert bounds(item) == ("2026-01-15 10:23:45", "2026-02-15 10:23:45")
    assert item.price.recurring.meter == meter.id
    assert (made.status, made.latest_invoice, made.billing_mode.type) == (
        "active",
        None,
        "flexible",
    )
    assert "current_period_end" not in made.to_dict()
    assert "quantity" not in item.to_dict()
    shop.world.advance_to(MONTH_ONE)
    again = shop.v1.subscriptions.retrieve(made.id, {"expand": ["customer"]})
    assert bounds(again["items"].data[0]) == ("2026-02-15 10:23:45", "2026-03-15 10:23:45")
    assert again.customer.name == "Ada"
    event = shop.v1.events.list({"type": "customer.subscription.updated"}).data[0]
    assert "items" in event.data.previous_attributes.to_dict()


def test_an_anchor_in_the_future_begins_with_a_part(shop, customer, meter):
    price = shop.price(unit_amount=3100, recurring={"interval": "month"})
    anchor = at("2026-02-01")
    made = shop.subscribe(customer, price, _cents(shop, meter, 1), billing_cycle_anchor=anchor)
    assert bounds(made["items"].data[0]) == ("2026-01-15 10:23:45", "2026-02-01 00:00:00")
    seconds = anchor - START
    assert amounts(shop.invoices(customer)[0]) == [round(3100 * seconds / (31 * 86400))]
    shop.use(customer, "7", START)
    shop.world.advance_to(anchor + 3600)
    assert amounts(shop.invoices(customer)[1]) == [7, 3100]
    with pytest.raises(stripe.InvalidRequestError, match="next natural billing date"):
        shop.subscribe(customer, price, billing_cycle_anchor=at("2026-03-15"))


def test_a_configured_anchor_is_a_whole_minute(shop, customer, meter):
    config = {"day_of_month": 31, "hour": 0, "minute": 0, "second": 0}
    made = shop.subscribe(customer, _cents(shop, meter, 1), billing_cycle_anchor_config=config)
    assert made.billing_cycle_anchor == at("2026-01-31")
    shop.world.advance_to(at("2026-03-01"))
    again = shop.v1.subscriptions.retrieve(made.id)
    assert bounds(again["items"].data[0]) == ("2026-02-28 00:00:00", "2026-03-31 00:00:00")


def test_a_change_of_price_splits_the_period(shop, customer, meter):
    made = shop.subscribe(customer, _cents(shop, meter, 1))
    shop.use(customer, "100", START + 5)
    shop.world.advance_to(MIDDLE)
    item = made["items"].data[0].id
    dear = _cents(shop, meter, 10)
    changed = shop.v1.subscriptions.update(made.id, {"items": [{"id": item, "price": dear.id}]})
    assert bounds(changed["items"].data[0]) == ("2026-01-15 10:23:45", "2026-02-15 10:23:45")
    shop.use(customer, "3", MIDDLE - 1)
    shop.use(customer, "5", MIDDLE)
    preview = shop.v1.invoices.create_preview({"subscription": made.id})
    shop.world.advance_to(MONTH_ONE + 3600)
    (invoice,) = shop.invoices(customer)
    assert amounts(invoice) == amounts(preview) == [103, 50]
    spans = [(each.period.start, each.period.end) for each in invoice.lines.data]
    assert spans == [(START, MIDDLE), (MIDDLE, MONTH_ONE)]
    shop.use(customer, "1", MONTH_ONE + 60)
    shop.world.advance_to(MONTH_TWO + 3600)
    assert amounts(shop.invoices(customer)[1]) == [10]


def test_in_classic_mode_the_last_price_bills_all(shop, customer, meter):
    made = shop.subscribe(customer, _cents(shop, meter, 1), billing_mode={"type": "classic"})
    shop.use(customer, "100", START + 5)
    shop.world.advance_to(MIDDLE)
    item = made["items"].data[0].id
    shop.v1.subscription_items.update(item, {"price": _cents(shop, meter, 10).id})
    shop.world.advance_to(MONTH_ONE + 3600)
    assert amounts(shop.invoices(customer)[0]) == [1000]


def test_items_are_added_and_removed(shop, customer, meter):
    other = shop.meter("bytes")
    made = shop.subscribe(customer, _cents(shop, meter, 1))
    shop.world.advance_to(MIDDLE)
    added = shop.v1.subscription_items.create(
        {"subscription": made.id, "price": _cents(shop, other, 2).id}
    )
    assert bounds(added) == ("2026-02-01 00:00:00", "2026-02-15 10:23:45")
    listed = shop.v1.subscription_items.list({"subscription": made.id})
    assert len(listed.data) == 2
    shop.use(customer, "10", MIDDLE - 5, "bytes")
    shop.use(customer, "4", MIDDLE, "bytes")
    shop.use(customer, "7", MIDDLE)
    shop.world.advance_to(at("2026-02-10"))
    assert shop.v1.subscription_items.delete(added.id).deleted
    with pytest.raises(stripe.InvalidRequestError) as refused:
        shop.v1.subscription_items.retrieve(added.id)
    assert refused.value.code == "resource_missing"
    with pytest.raises(stripe.InvalidRequestError, match="at least one active plan"):
        shop.v1.subscription_items.delete(made["items"].data[0].id)
    shop.world.advance_to(MONTH_ONE + 3600)
    assert amounts(shop.invoices(customer)[0]) == [8, 7]


def test_a_licensed_change_is_settled_to_the_second(shop, customer):
    price = shop.price(unit_amount=3100, recurring={"interval": "month"})
    made = shop.subscribe(customer, price)
    item = made["items"].data[0].id
    shop.world.advance_to(START + 31 * 86400 // 2)
    shop.v1.subscriptions.update(made.id, {"items": [{"id": item, "quantity": 3}]})
    shop.world.advance_to(MONTH_ONE + 3600)
    assert [amounts(each) for each in shop.invoices(customer)] == [[3100], [9300, -1550, 4650]]


def test_another_interval_begins_anew(shop, customer, meter):
    made = shop.subscribe(customer, _cents(shop, meter, 1))
    shop.use(customer, "9", START)
    shop.world.advance_to(MIDDLE)
    weekly = shop.metered(meter, "week", unit_amount=2)
    item = made["items"].data[0].id
    changed = shop.v1.subscriptions.update(made.id, {"items": [{"id": item, "price": weekly.id}]})
    assert bounds(changed["items"].data[0]) == ("2026-02-01 00:00:00", "2026-02-08 00:00:00")
    assert amounts(shop.invoices(customer)[0]) == [9]


def test_a_trial_is_free(shop, customer, meter):
    price = shop.price(unit_amount=500, recurring={"interval": "month"})
    made = shop.subscribe(customer, price, _cents(shop, meter, 1), trial_period_days=7)
    assert (made.status, made.trial_end) == ("trialing", START + 7 * 86400)
    assert bounds(made["items"].data[0])[1] == "2026-01-22 10:23:45"
    assert amounts(shop.invoices(customer)[0]) == [0]
    shop.use(customer, "50", START)
    shop.world.advance_to(made.trial_end + 3600)
    assert amounts(shop.invoices(customer)[1]) == [500]
    shop.use(customer, "3", made.trial_end)
    again = shop.v1.subscriptions.retrieve(made.id)
    assert (again.status, again.billing_cycle_anchor) == ("active", made.trial_end)
    shop.world.advance_to(at("2026-02-22 12:00:00"))
    assert amounts(shop.invoices(customer)[2]) == [3, 500]


@pytest.mark.parametrize(
    ("behavior", "status"),
    [("keep_as_draft", "draft"), ("void", "void"), ("mark_uncollectible", "uncollectible")],
)
def test_a_pause(shop, customer, meter, behavior, status):
    made = shop.subscribe(customer, _cents(shop, meter, 1))
    shop.use(customer, "5", START)
    pause = {"behavior": behavior, "resumes_at": at("2026-03-01")}
    paused = shop.v1.subscriptions.update(made.id, {"pause_collection": pause})
    assert paused.pause_collection.behavior == behavior
    shop.world.advance_to(MONTH_TWO + 3600)
    assert [each.status for each in shop.invoices(customer)] == [status, "paid"]
    assert shop.v1.subscriptions.retrieve(made.id).pause_collection is None


def test_an_end_with_the_period_bills_what_was_used(shop, customer, meter):
    made = shop.subscribe(customer, _cents(shop, meter, 1))
    shop.use(customer, "5", START)
    ending = shop.v1.subscriptions.update(made.id, {"cancel_at_period_end": True})
    assert (ending.cancel_at, ending.status) == (MONTH_ONE, "active")
    assert amounts(shop.v1.invoices.create_preview({"subscription": made.id})) == [5]
    shop.world.advance_to(at("2026-05-01"))
    ended = shop.v1.subscriptions.retrieve(made.id)
    assert (ended.status, ended.ended_at) == ("canceled", MONTH_ONE)
    assert [amounts(each) for each in shop.invoices(customer)] == [[5]]
    assert ("customer.subscription.deleted", MONTH_ONE) in shop.events()
    with pytest.raises(stripe.InvalidRequestError) as refused:
        shop.v1.invoices.create_preview({"subscription": made.id})
    assert refused.value.code == "invoice_upcoming_none"


@pytest.mark.parametrize(("how", "billed"), [({"invoice_now": True}, [[5]]), ({}, [])])
def test_an_end_at_once(shop, customer, meter, how, billed):
    made = shop.subscribe(customer, _cents(shop, meter, 1))
    shop.use(customer, "5", START)
    shop.world.advance_to(MIDDLE)
    assert shop.v1.subscriptions.cancel(made.id, how).status == "canceled"
    shop.world.advance_to(MIDDLE + 3600)
    assert [amounts(each) for each in shop.invoices(customer)] == billed
    with pytest.raises(stripe.InvalidRequestError):
        shop.v1.subscriptions.cancel(made.id)


def test_an_end_at_an_instant(shop, customer, meter):
    made = shop.subscribe(customer, _cents(shop, meter, 1), cancel_at=MIDDLE)
    shop.use(customer, "5", START)
    shop.world.advance_to(MONTH_TWO)
    assert shop.v1.subscriptions.retrieve(made.id).ended_at == MIDDLE
    assert [amounts(each) for each in shop.invoices(customer)] == [[5]]


def test_two_subscriptions_on_one_meter_bill_the_same_usage_twice(shop, customer, meter):
    shop.subscribe(customer, _cents(shop, meter, 1))
    shop.subscribe(customer, _cents(shop, meter, 2))
    shop.use(customer, "5", START)
    shop.world.advance_to(MONTH_ONE + 3600)
    assert sorted(each.total for each in shop.invoices(customer)) == [5, 10]


def test_lists(shop, customer, meter):
    cheap, dear = _cents(shop, meter, 1), _cents(shop, meter, 2)
    first = shop.subscribe(customer, cheap)
    second = shop.subscribe(shop.customer(), dear)
    shop.v1.subscriptions.cancel(second.id)

    def ids(**wanted):
        return [each.id for each in shop.v1.subscriptions.list(wanted).data]

    assert ids() == [first.id]
    assert ids(status="all") == [second.id, first.id]
    assert ids(status="canceled") == ids(status="ended") == [second.id]
    assert ids(customer=customer.id, price=cheap.id) == [first.id]
    assert ids(price=dear.id) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"items": []}, "Missing required param: items"),
        ({"customer": "cus_no"}, "No such customer"),
        ({"trial_end": 5}, "Invalid trial_end"),
        ({"colour": "red"}, "Received unknown parameter: colour"),
        ({"collection_method": "send_invoice"}, "days_until_due"),
        ({"cancel_at": 5}, "in the future"),
    ],
)
def test_what_no_subscription_may_be(shop, customer, meter, change, told):
    price = _cents(shop, meter, 1)
    with pytest.raises(stripe.InvalidRequestError, match=told):
        shop.v1.subscriptions.create(
            {"customer": customer.id, "items": [{"price": price.id}], **change}
        )
    assert shop.v1.subscriptions.list({"status": "all"}).data == []


@pytest.mark.parametrize(
    ("items", "told"),
    [
        ([{"price": "metered", "quantity": 1}], "Quantity should not be specified"),
        ([{"price": "metered"}, {"price": "metered"}], "same plan"),
        ([{"price": "metered"}, {"price": "euro"}], "currency"),
        ([{"price": "once"}], "type=one_time"),
        ([{"price": "old"}], "inactive"),
    ],
)
def test_what_no_item_may_be(shop, customer, meter, items, told):
    monthly = {"interval": "month"}
    prices = {
        "metered": _cents(shop, meter, 1),
        "euro": shop.price(unit_amount=1, currency="eur", recurring=monthly),
        "once": shop.price(unit_amount=1),
        "old": shop.price(unit_amount=1, active=False, recurring=monthly),
    }
    asked = [{**each, "price": prices[each["price"]].id} for each in items]
    with pytest.raises(stripe.InvalidRequestError, match=told):
        shop.subscribe(customer, items=asked)


def test_a_deleted_customer_ends_its_subscriptions(shop, customer, meter):
    made = shop.subscribe(customer, _cents(shop, meter, 1))
    shop.v1.customers.delete(customer.id)
    assert shop.v1.subscriptions.retrieve(made.id).status == "canceled"
    shop.world.advance_to(MONTH_TWO)
    assert shop.invoices(customer) == []


def test_previews_of_what_might_be(shop, customer, meter):
    price = shop.price(unit_amount=500, recurring={"interval": "month"})
    made = shop.subscribe(customer, price)
    item = made["items"].data[0].id
    asked = {"items": [{"id": item, "quantity": 3}]}
    preview = shop.v1.invoices.create_preview(
        {"subscription": made.id, "subscription_details": asked}
    )
    assert amounts(preview) == [1500]
    other = shop.customer()
    prices = [{"price": price.id, "quantity": 2}, {"price": _cents(shop, meter, 1).id}]
    preview = shop.v1.invoices.create_preview(
        {"customer": other.id, "subscription_details": {"items": prices}}
    )
    assert amounts(preview) == [1000, 0]
    assert shop.v1.subscriptions.list({"customer": other.id}).data == []
