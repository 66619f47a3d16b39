"""No quantity within a projection's band costs less or more than its money band says."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from metering.billing import amounts
from pricing import money
from pricing.price import Price
from pricing.projection import Band
from tests.pricing.strategies import QUANTITIES, prices


@given(prices(), st.tuples(*[QUANTITIES] * 4))
def test_whatever_lies_within_the_band_costs_within_the_band(
    price: Price, drawn: tuple[Decimal, ...]
) -> None:
    low, expected, anything, high = sorted(drawn)
    for between in (anything, expected):
        line = amounts.of_line(price, low, Band(low, between, high))
        assert line.current == price.amount(low)
        assert line.projected == price.amount(between)
        for quantity in (low, expected, anything, high):
            assert line.low <= price.amount(quantity) <= line.high


def test_there_is_no_sum_of_nothing_nor_of_two_currencies() -> None:
    dollars, yen = money.currency("usd"), money.currency("jpy")
    line = amounts.Amounts(dollars, 1, 2, 3, 4)
    assert amounts.total([]) is None
    assert amounts.total([line, amounts.Amounts(yen, 1, 1, 1, 1)]) is None
    assert amounts.total([line, line]) == amounts.Amounts(dollars, 2, 4, 6, 8)


@given(prices(), QUANTITIES)
def test_a_total_below_zero_costs_what_nothing_does(price: Price, quantity: Decimal) -> None:
    nothing, below = price.amount(Decimal(0)), -quantity
    assert amounts.cost(price, below) == nothing
    assert amounts.cost(price, quantity) == price.amount(quantity)
    line = amounts.of_line(price, below, Band(below, below, quantity))
    assert (line.current, line.projected) == (nothing, nothing)
    assert line.low <= nothing <= line.high
