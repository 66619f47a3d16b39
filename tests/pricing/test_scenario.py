"""Scenarios as data: what is compared, how near is near enough, and what is none."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing import PricingError, scenario

PRICE = {"model": "per_unit", "currency": "usd", "unitPrice": 1}
AMOUNTS = st.decimals(0, 10**6, places=2)


def usage(quantity: Any = 100, **changes: Any) -> dict[str, Any]:
    return {"metric": "m", "quantity": quantity, "priceConfig": PRICE} | changes


def written(*items: Any, **members: Any) -> dict[str, Any]:
    return {"input": {"usageItems": list(items) or [usage()]}} | members


def outcome(document: Any) -> scenario.Outcome:
    (one,), refused = scenario.read(document, "a")
    assert not refused
    return scenario.run(one)


def test_what_is_not_expected_is_not_compared() -> None:
    assert outcome(written()).state == "no expectation"
    assert outcome(written(expected={"tax": 0})).state == "agrees"


def test_every_total_and_line_is_compared() -> None:
    given = {
        "usageItems": [usage(metric="a"), usage(50, metric="b")],
        "minimumCommitment": 180,
        "discounts": [{"percentOff": 10}],
        "credits": [{"amount": 12}],
        "taxRate": 20,
    }
    # 100 + 50, topped up to 180; less 18 and 12 are 150; 20 % of it is 30.
    expected = {
        "subtotal": 180,
        "discounts": 18,
        "credits": 12,
        "tax": 30,
        "total": 180,
        "lineItems": [
            {"metric": "a", "total": 100},
            {"metric": "b", "total": 50},
            {"total": 30},
        ],
    }
    assert outcome({"input": given, "expected": expected}).state == "agrees"
    for name in ("subtotal", "discounts", "credits", "tax", "total"):
        wrong = outcome({"input": given, "expected": expected | {name: "0.01"}})
        assert wrong.state == "differs"
        assert [each.what for each in wrong.differences if not each.is_within] == [name]


@given(AMOUNTS, AMOUNTS, AMOUNTS, st.decimals(0, 100, places=3))
def test_a_tolerance_is_a_bound_and_not_a_rounding(
    used: Decimal, wanted: Decimal, absolute: Decimal, percent: Decimal
) -> None:
    document = written(
        usage(used),
        expected={"total": wanted},
        tolerances={"absolute": absolute, "percent": percent},
    )
    is_near = abs(used - wanted) <= max(absolute, wanted * percent / 100)
    assert (outcome(document).state == "agrees") == is_near


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (None, ""),
        ([], ""),
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        (written(expcted={"total": 1}), "expcted"),
        (written(expected=None), "expected"),
        (written(expected={}), "expected"),
        (written(expected={"total": None}), "expected"),
        (written(expected=[1]), "expected"),
        (written(expected={"totl": 1}), "expected/totl"),
        (written(expected={"total": True}), "expected/total"),
        (written(expected={"total": float("nan")}), "expected/total"),
        (written(expected={"total": "12 USD"}), "expected/total"),
        (written(expected={"total": 10**30}), "expected/total"),
        (written(expected={"lineItems": {}}), "expected/lineItems"),
        (written(expected={"lineItems": [{"metric": "m"}]}), "expected/lineItems/0/total"),
        (written(expected={"lineItems": [{"total": 1, "x": 1}]}), "expected/lineItems/0/x"),
        (written(tolerances=False), "tolerances"),
        (written(tolerances={"percent": -1}), "tolerances/percent"),
        (written(tolerances={"absolute": "x"}), "tolerances/absolute"),
        (written(name=5), "name"),
        (written(name="\ud800"), "name"),
        ({"scenarios": []}, "scenarios"),
        ({"scenarios": {}}, "scenarios"),
        ({"scenarios": [written()], "name": "x"}, "name"),
        ({"scenarios": [None]}, "scenarios/0"),
        ({"scenarios": [written(tolerance={})]}, "scenarios/0/tolerance"),
    ],
)
def test_what_is_no_scenario(document: Any, field: str) -> None:
    try:
        found, (refused,) = scenario.read(document, "a")
    except PricingError as error:
        found, refused = [], error
    assert (found, refused.field) == ([], field)


def test_one_bad_scenario_does_not_hide_the_others() -> None:
    found, refused = scenario.read({"scenarios": [{}, written(), {"input": 1}]}, "a")
    assert [(each.name, each.at) for each in found] == [("a #2", "scenarios/1")]
    assert [error.field for error in refused] == ["scenarios/0/input", "scenarios/2/input"]


@pytest.mark.parametrize(
    ("lines", "field"),
    [
        ([{"total": 100}, {"total": 1}], "scenarios/0/expected/lineItems/1"),
        ([{"metric": "n", "total": 100}], "scenarios/0/expected/lineItems/0"),
    ],
)
def test_a_line_that_is_not_there_is_an_error(lines: list[Any], field: str) -> None:
    (one,), _ = scenario.read({"scenarios": [written(expected={"lineItems": lines})]}, "a")
    error = scenario.run(one).error
    assert error is not None
    assert error.field == field
