"""Re-pricing: every row at both prices, sums by customer, and a distribution that loses nobody."""

from collections import defaultdict
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing import PricingError, backtest
from pricing.backtest import BUCKETS, Outcome, Summary, bucket
from pricing.price import from_config

BEFORE = from_config({"model": "per_unit", "currency": "usd", "unitPrice": "0.015"})
AFTER = from_config(
    {
        "model": "graduated",
        "currency": "usd",
        "tiers": [
            {"upTo": 100, "unitPrice": "0.02", "flatPrice": "1"},
            {"upTo": None, "unitPrice": "0.011"},
        ],
    }
)
PAIRS = {(metric, month): backtest.pair(BEFORE, AFTER) for metric in "ab" for month in range(3)}

quantities = st.decimals(min_value=0, max_value=10**9, places=3)
rows = st.lists(
    st.tuples(st.sampled_from(["x", "y", "z"]), st.sampled_from("ab"),
              st.integers(0, 2), quantities)
).map(lambda found: sorted(found, key=lambda row: row[0]))  # fmt: skip
outcomes = st.lists(
    st.builds(Outcome, st.just("c"), st.integers(0, 10**12), st.integers(0, 10**12), st.just(1))
)


@given(rows)
def test_every_row_is_billed_once_at_either_price(rows: list) -> None:
    expected: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for customer, _, _, quantity in rows:
        for i, price in enumerate((BEFORE, AFTER)):
            expected[customer][i] += sum(part.amount for part in price.parts(quantity))
        expected[customer][2] += 1
    found = list(backtest.reprice(rows, PAIRS))
    assert [tuple(each) for each in found] == [
        (customer, *expected[customer]) for customer in sorted(expected)
    ]


@given(outcomes, outcomes)
def test_a_summary_kept_between_two_halves_is_the_summary_of_the_whole(
    first: list[Outcome], second: list[Outcome]
) -> None:
    whole, half = Summary(), Summary()
    for each in first + second:
        whole.add(each)
    for each in first:
        half.add(each)
    half = Summary.from_json(half.to_json())
    for each in second:
        half.add(each)
    assert half == whole
    assert whole.change == sum(each.change for each in first + second)
    assert whole.change == whole.winners.amount + whole.losers.amount
    assert whole.customers == len(first + second)
    assert whole.customers == whole.winners.customers + whole.losers.customers + whole.unchanged
    assert whole.customers == sum(each.customers for each in whole.buckets)
    assert whole.change == sum(each.amount for each in whole.buckets)


@given(st.integers(1, 10**9), st.integers(0, 10**10))
def test_a_bucket_holds_what_its_edges_say(before: int, after: int) -> None:
    found = BUCKETS[bucket(before, after)]
    percent = Decimal(after - before) * 100 / before
    if after == before:
        assert found.label == "the same"
    elif after < before:
        assert found.high is None or percent > found.high
        assert found.low is not None
        assert percent <= found.low
    else:
        assert found.low is not None
        assert percent >= found.low
        assert found.high is None or percent < found.high


@pytest.mark.parametrize(
    ("before", "after", "label"),
    [
        (100, 0, "50 % less and beyond"), (100, 50, "50 % less and beyond"),
        (100, 51, "25 to 50 % less"), (100, 95, "5 to 10 % less"), (100, 96, "under 5 % less"),
        (100, 100, "the same"), (0, 0, "the same"), (100, 104, "under 5 % more"),
        (100, 105, "5 to 10 % more"), (100, 200, "100 % more and beyond"),
        (0, 1, "paid nothing before"),
    ],
)  # fmt: skip
def test_the_buckets_by_example(before: int, after: int, label: str) -> None:
    assert BUCKETS[bucket(before, after)].label == label


def test_the_buckets_stand_in_order() -> None:
    assert len(BUCKETS) == 13
    order = [bucket(1000, after) for after in range(4000)]
    assert order == sorted(order)
    assert set(order) == set(range(12))


def test_two_currencies_are_not_set_against_each_other() -> None:
    euro = from_config({"model": "per_unit", "currency": "eur", "unitPrice": "0.015"})
    with pytest.raises(PricingError, match="currency: differs: eur here, usd"):
        backtest.pair(BEFORE, euro)


@pytest.mark.parametrize("quantity", [Decimal(-1), Decimal("1" * 119 + ".001")])
def test_a_quantity_without_a_price_is_named(quantity: Decimal) -> None:
    with pytest.raises(PricingError, match=r"^a of cus_9: "):
        list(backtest.reprice([("cus_9", "a", 0, quantity)], PAIRS))
