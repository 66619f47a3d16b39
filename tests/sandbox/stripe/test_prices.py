"""Prices of the stand-in: what is refused, and how they show."""

from decimal import Decimal

import pytest
import stripe

from tests.sandbox.stripe.billing import GRADUATED

MONTHLY = {"interval": "month"}
TIERED = {"billing_scheme": "tiered", "tiers_mode": "graduated", "recurring": MONTHLY}


def _refused(shop, **given):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        shop.price(**given)
    return refused.value


@pytest.mark.parametrize(
    ("given", "param", "told"),
    [
        ({"recurring": {**MONTHLY, "usage_type": "metered"}}, "recurring[meter]", "meter"),
        ({"recurring": {**MONTHLY, "meter": "mtr_1"}}, "recurring[meter]", "metered"),
        ({"unit_amount_decimal": "2"}, "unit_amount", "only specify one"),
        ({"unit_amount": -1}, "unit_amount", "greater than or equal"),
        ({"recurring": {"interval": "month", "interval_count": 37}}, None, "three years"),
        ({"recurring": {**MONTHLY, "aggregate_usage": "sum"}}, None, "unknown parameter"),
        ({"tiers": GRADUATED}, "tiers", "billing_scheme"),
        ({"billing_scheme": "tiered"}, "unit_amount", "cannot be set"),
        ({"transform_quantity": {"divide_by": 0, "round": "up"}}, None, "greater than"),
        ({"currency": "dollar"}, "currency", "Invalid currency"),
    ],
)
def test_what_a_price_per_unit_may_not_be(shop, given, param, told):
    error = _refused(shop, **{"unit_amount": 1, **given})
    assert told in str(error)
    assert param in (None, error.param)


@pytest.mark.parametrize(
    ("tiers", "told"),
    [
        ([{"up_to": 10, "unit_amount": 1}], "must be up to `inf`"),
        ([{"up_to": "inf", "unit_amount": 1}] * 2, "Only the last tier"),
        ([{"up_to": 10, "unit_amount": 1}] * 2 + GRADUATED[1:], "ascending"),
        ([{"up_to": "inf"}], "Each tier must have"),
        ([{"up_to": "inf", "unit_amount": 1, "unit_amount_decimal": "1"}], "only specify one"),
        ([{"up_to": "inf", "flat_amount_decimal": "1.0000000000001"}], "12 decimal places"),
        ([{"up_to": "inf", "unit_amount_decimal": "1e3"}], "Invalid decimal"),
    ],
)
def test_what_tiers_may_not_be(shop, tiers, told):
    assert told in str(_refused(shop, **TIERED, tiers=tiers))


def test_tiers_and_packages_do_not_mix(shop):
    package = {"divide_by": 10, "round": "up"}
    error = _refused(shop, **TIERED, tiers=GRADUATED, transform_quantity=package)
    assert error.param == "transform_quantity"


def test_neither_amount_is_too_few(shop):
    assert "either" in str(_refused(shop, recurring=MONTHLY))


def test_a_meter_must_be_known_and_active(shop):
    meter = shop.meter()
    shop.v1.billing.meters.deactivate(meter.id)
    error = _refused(
        shop, unit_amount=1, recurring={**MONTHLY, "usage_type": "metered", "meter": meter.id}
    )
    assert "inactive" in str(error)
    error = _refused(
        shop, unit_amount=1, recurring={**MONTHLY, "usage_type": "metered", "meter": "mtr_no"}
    )
    assert error.code == "resource_missing"


def test_tiers_show_when_they_are_asked_for(shop):
    made = shop.graduated(shop.meter())
    assert "tiers" not in made.to_dict()
    shown = shop.v1.prices.retrieve(made.id, {"expand": ["tiers", "product"]})
    assert shown.product.name == "Usage"
    first, last = shown.tiers
    assert (first.up_to, first.unit_amount, first.flat_amount) == (1000, 0, 900)
    assert (last.up_to, last.unit_amount, last.unit_amount_decimal) == (None, None, Decimal("3.6"))
    (listed,) = shop.v1.prices.list({"expand": ["data.tiers"]}).data
    assert len(listed.tiers) == 2


def test_a_price_without_tiers_is_shown_without_them_when_they_are_asked_for(shop):
    """As our own listing asks, for every price of an account at once."""
    made = shop.price(unit_amount=1)
    shop.graduated(shop.meter())
    paths = ["tiers", "currency_options.tiers"]
    assert "tiers" not in shop.v1.prices.retrieve(made.id, {"expand": paths}).to_dict()
    listed = shop.v1.prices.list({"expand": [f"data.{path}" for path in paths]}).data
    assert sorted("tiers" in each.to_dict() for each in listed) == [False, True]


@pytest.mark.parametrize(
    ("path", "told"), [("nothing", "cannot be expanded"), ("a.b.c.d.e", "more than 4 levels")]
)
def test_what_cannot_be_expanded(shop, path, told):
    made = shop.price(unit_amount=1)
    with pytest.raises(stripe.InvalidRequestError, match=told):
        shop.v1.prices.retrieve(made.id, {"expand": [path]})


def test_decimals_are_kept_to_the_twelfth(shop):
    made = shop.price(unit_amount_decimal="0.000000000001")
    assert (made.unit_amount, made.unit_amount_decimal) == (None, Decimal("0.000000000001"))
    assert shop.price(unit_amount_decimal="5.00").unit_amount == 5
    assert "12 decimal places" in str(_refused(shop, unit_amount_decimal="0.0000000000001"))


def test_prices_are_found_by_meter_and_lookup_key(shop):
    meter = shop.meter()
    made = shop.metered(meter, unit_amount=1, lookup_key="calls")
    shop.price(unit_amount=1, recurring=MONTHLY)
    for wanted in ({"recurring": {"meter": meter.id}}, {"lookup_keys": ["calls"]}):
        assert [each.id for each in shop.v1.prices.list(wanted).data] == [made.id]
    assert "already uses" in str(_refused(shop, unit_amount=1, lookup_key="calls"))
    moved = shop.price(unit_amount=1, lookup_key="calls", transfer_lookup_key=True)
    assert shop.v1.prices.list({"lookup_keys": ["calls"]}).data[0].id == moved.id


def test_customers_and_products(shop):
    customer = shop.customer(metadata={"a": "1", "b": "2"})
    changed = shop.v1.customers.update(customer.id, {"metadata": {"a": "", "c": "3"}})
    assert changed.metadata.to_dict() == {"b": "2", "c": "3"}
    assert [each.id for each in shop.v1.customers.list().data] == [customer.id]
    assert shop.v1.customers.delete(customer.id).deleted
    assert shop.v1.customers.retrieve(customer.id).deleted
    assert shop.v1.customers.list().data == []
    product = shop.v1.products.create({"name": "Calls", "unit_label": "call"})
    assert shop.v1.products.update(product.id, {"name": "Call"}).name == "Call"
    price = shop.v1.prices.create({"currency": "usd", "unit_amount": 1, "product": product.id})
    assert shop.v1.prices.update(price.id, {"active": False}).active is False
    with pytest.raises(stripe.InvalidRequestError, match="cannot be deleted"):
        shop.v1.products.delete(product.id)
    told = [kind for kind, _ in shop.events()]
    assert told[:3] == ["customer.created", "customer.updated", "customer.deleted"]
