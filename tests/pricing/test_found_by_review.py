"""Faults that were found by looking, each with the case that showed it."""

from decimal import Decimal
from typing import Any

import pytest

from pricing import InvoiceSimulator, PricingError, scenario
from pricing.curve import crossovers, falls
from pricing.definition import Price
from pricing.money import currency
from pricing.package import Package
from pricing.price import from_config, from_stripe, to_config, to_stripe

USD, EUR = currency("usd"), currency("eur")
UNIT = {"model": "per_unit", "currency": "usd", "unitPrice": 1}


def options(*given: dict[str, Any]) -> dict[str, Any]:
    return UNIT | {"currencyOptions": list(given)}


@pytest.mark.parametrize(
    ("option", "field"),
    [
        ({"model": "package", "packageSize": 10, "unitPrice": 5}, "currency_options/eur"),
        ({**UNIT, "minimumCharge": 10}, "currency_options/eur/minimum_charge"),
        ({**UNIT, "freeUnits": 3}, "currency_options/eur/free_units"),
    ],
)
def test_an_option_that_stripe_would_price_otherwise_is_not_written(
    option: dict[str, Any], field: str
) -> None:
    price = from_config(options(option | {"currency": "eur"}))
    with pytest.raises(PricingError) as refused:
        to_stripe(price)
    assert refused.value.field == field


def test_a_package_of_another_size_is_another_model_to_stripe() -> None:
    other = Price(EUR, Package(Decimal(5), 20))
    with pytest.raises(PricingError):
        to_stripe(Price(USD, Package(Decimal(5), 10), others=(other,)))


@pytest.mark.parametrize(
    "given",
    [
        options({**UNIT, "currency": "eur"}, {**UNIT, "currency": "eur"}),
        options(UNIT),
        options(options({**UNIT, "currency": "eur"}) | {"currency": "chf"}),
    ],
)
def test_options_are_of_other_currencies_once_each(given: dict[str, Any]) -> None:
    with pytest.raises(PricingError, match="currencyOptions"):
        from_config(given)


def test_options_do_not_nest_however_deep() -> None:
    given = UNIT
    for _ in range(5_000):
        given = {**UNIT, "currencyOptions": [given]}
    with pytest.raises(PricingError, match="options of its own"):
        from_config(given)


def test_a_long_nickname_is_read_back_or_refused() -> None:
    stripe = {"currency": "usd", "unit_amount": 1, "nickname": "x" * 5000}
    price = from_stripe(stripe)
    assert from_config(to_config(price)) == price
    with pytest.raises(PricingError, match="5000"):
        from_stripe(stripe | {"nickname": "x" * 5001})


def test_a_currency_code_that_is_no_text() -> None:
    with pytest.raises(PricingError, match="currency codes"):
        from_stripe({"currency": "usd", "unit_amount": 1, "currency_options": {1: {}, "eur": {}}})


def test_until_where_more_costs_less_is_the_first_time() -> None:
    tiers = [
        {"upTo": 100, "unitPrice": 1},
        {"upTo": 200, "unitPrice": "0.9"},
        {"upTo": None, "unitPrice": "0.1"},
    ]
    first, second = falls(from_config({"model": "volume", "currency": "usd", "tiers": tiers}))
    assert (first.quantity, first.until) == (100, 112)  # 112 x 0.9 = 100.80, 111 x 0.9 = 99.90
    assert (second.quantity, second.until) == (200, 1800)  # 1,800 x 0.1 = 180


def test_a_price_that_never_catches_up() -> None:
    tiers = [{"upTo": 10, "unitPrice": 1}, {"upTo": None, "flatPrice": 2}]
    (fall,) = falls(from_config({"model": "volume", "currency": "usd", "tiers": tiers}))
    assert fall.until is None


def test_crossovers_where_a_bound_begins_to_count() -> None:
    one = from_config(UNIT | {"minimumCharge": 50, "maximumCharge": 9000})
    tiers = [{"upTo": None, "unitPrice": "0.5", "flatPrice": "49.5"}]
    two = from_config({"model": "graduated", "currency": "usd", "tiers": tiers})
    found = [(each.quantity, each.cheaper) for each in crossovers([one, two], Decimal(12000))]
    assert found == [(1, 0), (99, 1)]


def test_a_crossing_below_one_unit_is_not_at_nothing() -> None:
    rate = from_config(UNIT)
    fee = from_config({"model": "flat", "currency": "usd", "flatPrice": "0.5"})
    (each,) = crossovers([rate, fee], Decimal(10))
    assert (each.quantity, each.cheaper) == (Decimal("0.5"), 1)


def test_a_begun_package_of_very_many() -> None:
    quantity = Decimal("12345678901234567890123456789.5")
    assert Package(Decimal(1), 1).billed(quantity) == Decimal("12345678901234567890123456790")


def test_a_prorated_fee_keeps_its_unrounded_amount() -> None:
    item = {
        "metric": "m",
        "quantity": 1,
        "priceConfig": {"model": "flat", "currency": "usd", "flatPrice": 10},
        "activeFrom": "2026-10-11T00:00:00Z",
    }
    span = {"periodStart": "2026-10-01T00:00:00Z", "periodEnd": "2026-11-01T00:00:00Z"}
    (line,) = InvoiceSimulator().simulate(span | {"usageItems": [item]})["lineItems"]
    assert line["total"] == "6.77"
    assert line["exact"].startswith("6.774193548387")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"discounts": [{"type": "percent", "value": 10, "percentOff": 20}]}, "discounts/0"),
        ({"credits": [{"amount": 10, "metrics": []}]}, "credits/0/metrics"),
        ({"periodStart": "0001-01-01T00:00:00+14:00"}, "periodStart"),
    ],
)
def test_what_would_be_dropped_or_break_is_refused(given: dict[str, Any], field: str) -> None:
    items = [{"metric": "m", "quantity": 1, "priceConfig": UNIT}]
    with pytest.raises(PricingError) as refused:
        InvoiceSimulator().simulate({"usageItems": items} | given)
    assert refused.value.field == field


def test_a_file_without_scenarios_is_no_success() -> None:
    with pytest.raises(PricingError, match="is empty"):
        scenario.read({"scenarios": []}, "f")


def test_the_advice_on_missing_tiers_names_what_to_expand() -> None:
    given = {
        "currency": "usd",
        "billing_scheme": "tiered",
        "tiers_mode": "volume",
        "tiers": [{"up_to": None, "unit_amount": 1}],
        "currency_options": {"eur": {"unit_amount": None}},
    }
    with pytest.raises(PricingError, match=r"expand\[\]=currency_options\.tiers"):
        from_stripe(given)


def test_the_next_unit_of_any_kind_of_number() -> None:
    price: Any = from_config(UNIT)
    for quantity in (1.5, "5", 5, Decimal("1.5")):
        assert price.marginal(quantity) == 100
    with pytest.raises(PricingError, match="decimals"):
        price.marginal(Decimal("1E-300"))
