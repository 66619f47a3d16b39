"""The curve, where a volume price falls, and where two prices cross."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.curve import JUST, Crossover, boundaries, crossovers, curve, falls
from pricing.definition import Price
from pricing.money import currency
from pricing.numbers import EXACT
from pricing.price import from_config
from tests.pricing.strategies import prices


def priced(**config: object) -> Price:
    return from_config({"currency": "usd"} | config)


VOLUME = priced(
    model="volume", tiers=[{"upTo": 100, "unitPrice": 2}, {"upTo": None, "unitPrice": 1}]
)


@settings(max_examples=50)
@given(prices())
def test_every_point_is_the_charge(price: Price) -> None:
    points = curve(price, Decimal(200), 40)
    assert points[0].quantity == 0
    assert points[-1].quantity == 200
    assert points == sorted(points, key=lambda point: point.quantity)
    for point in points:
        assert point.amount == price.charge(point.quantity)


def test_both_sides_of_a_step_are_on_the_curve() -> None:
    at = {point.quantity: point.amount for point in curve(VOLUME, Decimal(200), 10)}
    assert at[Decimal(100)] == 20000
    assert at[Decimal("100.000000000001")] < 10001
    assert boundaries(VOLUME) == [100]


def test_a_fall_says_until_where_more_costs_less() -> None:
    (fall,) = falls(VOLUME)
    assert (fall.quantity, fall.before, fall.until) == (100, 20000, 200)
    assert falls(priced(model="graduated", tiers=[{"upTo": None, "unitPrice": 1}])) == []


def test_where_two_prices_cross() -> None:
    rate, fee = priced(model="per_unit", unitPrice="0.01"), priced(model="flat", flatPrice=413)
    assert crossovers([rate, fee], Decimal(100_000)) == [Crossover(Decimal(41_300), 1, 0)]
    assert crossovers([fee, rate], Decimal(100_000)) == [Crossover(Decimal(41_300), 0, 1)]
    assert crossovers([rate, fee], Decimal(41_300)) == []
    assert crossovers([rate, rate], Decimal(100)) == []


def test_a_crossing_by_a_jump_is_at_the_jump() -> None:
    rate = priced(model="per_unit", unitPrice="1.5")
    assert crossovers([rate, VOLUME], Decimal(300)) == [Crossover(Decimal(100), 1, 0)]


@settings(max_examples=100)
@given(st.lists(prices(st.just(currency("usd"))), min_size=2, max_size=3))
def test_around_every_crossover_the_order_changes(several: list[Price]) -> None:
    for each in crossovers(several, Decimal(160), 40):
        cheaper, dearer = several[each.cheaper], several[each.than]
        before, after = each.quantity, each.quantity + 1
        assert cheaper.charge(before) >= dearer.charge(before)
        near = [after, EXACT.add(before, JUST), before + Decimal("0.01")]
        assert any(cheaper.charge(q) < dearer.charge(q) for q in near)


def test_fractions_on_both_sides_are_searched_to_the_end() -> None:
    # Between 5.2 and 6.3 the middle's floor is 5: it must not be tried for ever.
    table = [{"upTo": "5.2", "unitPrice": 1}, {"upTo": "6.3", "unitPrice": 3}, {"unitPrice": 1}]
    steep, rate = priced(model="graduated", tiers=table), priced(model="per_unit", unitPrice="1.2")
    assert [each.cheaper for each in crossovers([steep, rate], Decimal(20), 4)] == [1, 0]


def test_a_package_crosses_more_than_once() -> None:
    package = priced(model="package", unitPrice=10, packageSize=10)
    rate = priced(model="per_unit", unitPrice="1.2")
    found = crossovers([package, rate], Decimal(20))
    assert [(each.quantity, each.cheaper) for each in found] == [(8, 0), (10, 1), (16, 0)]
