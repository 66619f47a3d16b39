"""What is true of every price."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing import InvoiceSimulator, PricingError
from pricing.definition import Price
from pricing.graduated import Graduated
from pricing.money import currency, rounded
from pricing.numbers import EXACT
from pricing.package import Package
from pricing.per_unit import PerUnit
from pricing.price import from_config, from_stripe, read, to_config, to_stripe
from pricing.tiers import Tier
from pricing.volume import Volume
from tests.pricing.strategies import (
    AMOUNTS,
    CURRENCIES,
    QUANTITIES,
    prices,
    stripe_prices,
    tables,
)

USD = currency("usd")
STEP = Decimal("1e-12")


@given(tables(), QUANTITIES, QUANTITIES)
def test_a_graduated_charge_never_falls(
    table: tuple[Tier, ...], one: Decimal, other: Decimal
) -> None:
    price = Price(USD, Graduated(table))
    low, high = sorted((one, other))
    assert price.charge(low) <= price.charge(high)
    assert price.amount(low) <= price.amount(high)


@given(tables(flat=False), st.data())
def test_a_graduated_charge_without_flat_prices_is_continuous(
    table: tuple[Tier, ...], data: st.DataObject
) -> None:
    price = Price(USD, Graduated(table))
    bounds = [tier.up_to for tier in table if tier.up_to is not None]
    at = data.draw(QUANTITIES | st.sampled_from([Decimal(0), *bounds]))
    steepest = max(tier.unit_amount or Decimal(0) for tier in table)
    step = EXACT.subtract(price.charge(EXACT.add(at, STEP)), price.charge(at))
    assert 0 <= step <= EXACT.multiply(steepest, STEP)


@given(tables(), st.lists(QUANTITIES, min_size=1, max_size=8))
def test_consecutive_slices_sum_to_the_whole(
    table: tuple[Tier, ...], slices: list[Decimal]
) -> None:
    price = Price(USD, Graduated(table))
    done, charged = Decimal(0), price.charge(Decimal(0))
    for units in slices:
        charged = EXACT.add(charged, price.charge_between(done, units))
        done = EXACT.add(done, units)
    assert charged == price.charge(done)


@given(tables(), QUANTITIES, CURRENCIES, st.sampled_from(["first_tier_flat", "nothing"]))
def test_the_summed_up_table_bills_what_the_lines_do(
    table: tuple[Tier, ...], quantity: Decimal, of: object, zero: str
) -> None:
    price = Price(of, Graduated(table), zero_usage=zero)  # type: ignore[arg-type]
    for q in (quantity, Decimal(0), *(tier.up_to for tier in table if tier.up_to is not None)):
        assert price.amount(q) == sum(part.amount for part in price.parts(q))


@given(prices(), QUANTITIES)
def test_the_exact_charge_is_the_exact_lines(price: Price, quantity: Decimal) -> None:
    exact = Decimal(0)
    for part in price.parts(quantity):
        exact = EXACT.add(exact, part.exact)
        if part.kind not in ("minimum", "maximum"):
            assert part.amount == rounded(part.exact, price.currency)
            assert part.exact == EXACT.multiply(part.quantity, part.unit_amount)
        assert part.amount % price.currency.step == 0
    if not price.is_bounded:
        assert exact == price.charge(quantity)
    assert price.amount(quantity) == sum(part.amount for part in price.parts(quantity))


@given(prices(), QUANTITIES)
def test_bounds_hold(price: Price, quantity: Decimal) -> None:
    charge, amount = price.charge(quantity), price.amount(quantity)
    if price.minimum_charge is not None:
        assert charge >= price.minimum_charge
        assert amount >= rounded(price.minimum_charge, price.currency)
    if price.maximum_charge is not None:
        assert charge <= price.maximum_charge
        assert amount <= rounded(price.maximum_charge, price.currency)


@given(AMOUNTS, st.integers(1, 1000), QUANTITIES)
def test_packages_up_and_down_differ_by_a_begun_one(
    amount: Decimal, size: int, quantity: Decimal
) -> None:
    up = Package(amount, size, "up").billed(quantity)
    down = Package(amount, size, "down").billed(quantity)
    assert down * size <= quantity <= up * size
    assert up - down == (0 if down * size == quantity else 1)


def test_a_volume_price_may_fall() -> None:
    table = (Tier(Decimal(100), Decimal(2)), Tier(None, Decimal(1)))
    price = Price(USD, Volume(table))
    assert price.charge(Decimal(100)) == 200
    assert price.charge(Decimal(101)) == 101
    assert price.marginal(Decimal(100)) == -99
    assert price.charge_between(Decimal(100), Decimal(1)) == -99


def test_a_fraction_above_a_bound_is_in_the_next_tier() -> None:
    table = (Tier(Decimal(5), Decimal(0), Decimal(100)), Tier(None, Decimal(0), Decimal(50)))
    assert Price(USD, Graduated(table)).charge(Decimal(5)) == 100
    assert Price(USD, Graduated(table)).charge(Decimal("5.000000000001")) == 150


def test_stripes_real_invoice() -> None:
    """Four lines, 0, 900, 112 and 0: each tier's unit part and flat part, rounded each."""
    price = from_stripe(
        {
            "object": "price",
            "currency": "usd",
            "billing_scheme": "tiered",
            "tiers_mode": "graduated",
            "unit_amount": None,
            "unit_amount_decimal": None,
            "transform_quantity": None,
            "recurring": {"interval": "month", "interval_count": 1, "usage_type": "metered",
                          "meter": "mtr_1", "aggregate_usage": None},
            "tiers": [
                {"up_to": 1000, "unit_amount": 0, "unit_amount_decimal": "0",
                 "flat_amount": 900, "flat_amount_decimal": "900"},
                {"up_to": None, "unit_amount": None, "unit_amount_decimal": "3.6",
                 "flat_amount": 0, "flat_amount_decimal": "0"},
            ],
        }
    )  # fmt: skip
    parts = price.parts(Decimal(1031))
    assert [part.amount for part in parts] == [0, 900, 112, 0]
    assert [part.exact for part in parts] == [0, 900, Decimal("111.6"), 0]
    assert price.amount(Decimal(1031)) == 1012
    assert price.charge(Decimal(1031)) == Decimal("1011.6")


@given(stripe_prices())
def test_what_is_written_for_stripe_is_read_back(price: Price) -> None:
    assert from_stripe(to_stripe(price)) == price
    assert read(to_stripe(price)) == price


@given(prices() | stripe_prices())
def test_a_config_is_read_back(price: Price) -> None:
    assert from_config(to_config(price)) == price
    assert read(to_config(price)) == price


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"minimum_charge": Decimal(1)}, "minimum_charge"),
        ({"maximum_charge": Decimal(1)}, "maximum_charge"),
        ({"free_units": Decimal(1)}, "free_units"),
        ({"zero_usage": "nothing"}, "zero_usage"),
    ],
)
def test_what_stripe_cannot_hold_is_not_written_for_it(
    config: dict[str, object], field: str
) -> None:
    price = Price(USD, PerUnit(Decimal(1)), **config)  # type: ignore[arg-type]
    with pytest.raises(PricingError) as refused:
        to_stripe(price)
    assert refused.value.field == field


def test_other_currencies_are_the_same_price() -> None:
    price = from_stripe(
        {
            "currency": "usd",
            "unit_amount_decimal": "0.15",
            "currency_options": {
                "jpy": {"unit_amount_decimal": "0.2", "tax_behavior": "inclusive"},
                "usd": {"unit_amount_decimal": "0.15"},
            },
        }
    )
    assert price.in_currency("JPY").charge(Decimal(10)) == 2
    assert price.in_currency("usd") is price
    with pytest.raises(PricingError, match="none for 'eur'"):
        price.in_currency("eur")


@pytest.mark.parametrize(
    ("code", "unit", "quantity", "total"),
    [
        ("JPY", "0.5", 3, "2"),  # 1.5 yen: no cents to hold them
        ("KWD", "0.0012", 4, "0.000"),  # 4.8 fils, to the nearest ten
        ("KWD", "0.0013", 4, "0.010"),
        ("ISK", "0.3", 4, "1.00"),  # 1.2 krónur: whole ones, written with two decimals
        ("UGX", "0.3", 5, "2.00"),
        ("HUF", "0.333", 1, "0.33"),
        ("TWD", "0.335", 1, "0.34"),
    ],
)
def test_currencies_by_stripes_table(code: str, unit: str, quantity: int, total: str) -> None:
    config = {"model": "per_unit", "currency": code, "unitPrice": unit}
    result = InvoiceSimulator().simulate(
        {"usageItems": [{"metric": "m", "quantity": quantity, "priceConfig": config}]}
    )
    assert (result["currency"], result["total"]) == (code.lower(), total)
