"""Whole invoices: the contract's example, and what is taken off and put on."""

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing import InvoiceSimulator, PricingError
from pricing.invoice import Credit, Discount, Terms, UsageItem, make
from pricing.money import currency
from pricing.proration import prorated, share
from pricing.shares import RESIDUES, split
from tests.pricing.strategies import CURRENCIES, QUANTITIES, prices

SIMULATE = InvoiceSimulator().simulate
EXAMPLE = {
    "model": "tiered",
    "currency": "USD",
    "tiers": [
        {"upTo": 10000, "unitPrice": 0.01},
        {"upTo": 50000, "unitPrice": 0.008},
        {"upTo": None, "unitPrice": 0.005},
    ],
}


def usage(quantity: object, config: dict[str, Any], metric: str = "api_calls") -> dict[str, Any]:
    return {"metric": metric, "quantity": quantity, "priceConfig": config}


def per_unit(price: object = 1, code: str = "usd") -> dict[str, Any]:
    return {"model": "per_unit", "currency": code, "unitPrice": price}


def test_the_contracts_example() -> None:
    result = SIMULATE(
        {
            "customerId": "cus_1",
            "periodStart": "2026-11-01T00:00:00Z",
            "periodEnd": "2026-12-01T00:00:00Z",
            "usageItems": [usage(25000, EXAMPLE)],
        }
    )
    assert (result["total"], result["totalMinor"], result["currency"]) == ("220.00", 22000, "usd")
    (item,) = result["lineItems"]
    assert (item["metric"], item["quantity"], item["total"]) == ("api_calls", "25000", "220.00")
    assert [line["total"] for line in item["lines"]] == ["100.00", "120.00"]
    assert item["unitPrice"] == "0.0088"


@pytest.mark.parametrize("number", [int, str, float, Decimal])
def test_numbers_may_be_of_any_kind_and_names_of_either_case(number: Any) -> None:
    config = {
        "model": "graduated",
        "currency": "usd",
        "tiers": [
            {"up_to": number("100"), "unit_price": "0.10"},
            {"up_to": number("500"), "unit_price": 0.08},
            {"up_to": None, "unit_price": Decimal("0.05")},
        ],
    }
    item = {"metric": "m", "quantity": number("350"), "price_config": config}
    assert SIMULATE(usage_items=[item])["total"] == "30.00"
    assert SIMULATE({"usage_items": [item]}) == SIMULATE(usage_items=[item])


def test_packages() -> None:
    config = {"model": "package", "currency": "usd", "unitPrice": 5, "packageSize": 100}
    assert SIMULATE(usage_items=[usage(250, config)])["total"] == "15.00"
    assert SIMULATE(usage_items=[usage(250, config | {"round": "down"})])["total"] == "10.00"


def test_a_flat_rate_is_per_unit_and_a_flat_fee_is_not() -> None:
    rate = {"model": "flat", "currency": "usd", "unitPrice": "0.10"}
    fee = {"model": "flat", "currency": "usd", "flatPrice": 29}
    assert SIMULATE(usage_items=[usage(100, rate)])["total"] == "10.00"
    assert SIMULATE(usage_items=[usage(100, fee)])["total"] == "29.00"


def test_the_order_is_lines_discounts_credits_tax() -> None:
    result = SIMULATE(
        {
            "periodEnd": "2026-12-01T00:00:00Z",
            "usageItems": [usage(100, per_unit(), "a"), usage(50, per_unit(), "b")],
            "discounts": [
                {"name": "all", "percentOff": 10},
                {"name": "a only", "amountOff": 20, "metric": "a"},
            ],
            "commitments": [{"name": "prepaid", "amount": 40}],
            "credits": [{"name": "gift", "amount": 7}],
            "taxRate": 20,
        }
    )
    # 150 - 20 = 130, less 10 % = 117; 7 + 40 are drawn: 70; 20 % of it is 14.
    assert result["subtotal"] == "150.00"
    assert result["discounts"] == "33.00"
    assert result["credits"] == "47.00"
    assert (result["tax"], result["total"]) == ("14.00", "84.00")
    assert [each["name"] for each in result["appliedCredits"]] == ["gift", "prepaid"]


def test_tax_within_the_prices_is_shown_and_not_added() -> None:
    result = SIMULATE(usage_items=[usage(119, per_unit())], tax_rate=19, tax_behavior="inclusive")
    assert (result["tax"], result["total"]) == ("19.00", "119.00")


def test_credits_expire_have_their_turn_and_their_metrics() -> None:
    result = SIMULATE(
        {
            "periodStart": "2026-11-01T00:00:00Z",
            "periodEnd": "2026-12-01T00:00:00Z",
            "usageItems": [usage(10, per_unit(), "a"), usage(100, per_unit(), "b")],
            "credits": [
                {"name": "later", "amount": 30, "expiresAt": "2027-03-01T00:00:00Z"},
                {"name": "sooner", "amount": 30, "expiresAt": "2027-01-01T00:00:00Z"},
                {"name": "gone", "amount": 30, "expiresAt": "2026-11-30T00:00:00Z"},
                {"name": "not yet", "amount": 30, "effectiveAt": "2026-12-02T00:00:00Z"},
                {"name": "first", "amount": 30, "priority": 1, "metrics": ["a"]},
            ],
        }
    )
    applied = {each["name"]: each for each in result["appliedCredits"]}
    assert [each["name"] for each in result["appliedCredits"]][:3] == ["first", "gone", "sooner"]
    assert applied["first"]["applied"] == "10.00"
    assert applied["first"]["remaining"] == "20.00"
    assert applied["gone"] | {} == {
        "name": "gone", "kind": "credit", "applied": "0.00", "remaining": "30.00",
        "notUsed": "it expired before the period's end",
    }  # fmt: skip
    assert applied["not yet"]["applied"] == "0.00"
    assert result["total"] == "40.00"


def test_a_minimum_commitment_is_topped_up_to() -> None:
    given = {"usageItems": [usage(30, per_unit())], "minimumCommitment": 100}
    result = SIMULATE(given)
    assert [item["total"] for item in result["lineItems"]] == ["30.00", "70.00"]
    assert result["total"] == "100.00"
    reached = SIMULATE(given | {"usageItems": [usage(100, per_unit())]})
    assert len(reached["lineItems"]) == 1


def test_nothing_used_is_nothing_owed_but_for_the_first_tiers_flat_price() -> None:
    config = {
        "model": "graduated",
        "currency": "usd",
        "tiers": [{"upTo": 5, "unitPrice": 1, "flatPrice": 9}, {"upTo": None, "unitPrice": 1}],
    }
    assert SIMULATE(usage_items=[usage(0, config)])["total"] == "9.00"
    free = SIMULATE(usage_items=[usage(0, config | {"zeroUsage": "nothing"})])
    assert free["total"] == "0.00"
    assert SIMULATE(usage_items=[usage(0, EXAMPLE)])["total"] == "0.00"


def test_a_fixed_fee_is_prorated_by_the_second() -> None:
    item = usage(1, {"model": "flat", "currency": "usd", "flatPrice": 30})
    given = {"periodStart": "2026-11-01T00:00:00Z", "periodEnd": "2026-12-01T00:00:00Z"}
    half = given | {"usageItems": [item | {"activeFrom": "2026-11-16T00:00:00Z"}]}
    assert SIMULATE(half)["total"] == "15.00"
    third = given | {"usageItems": [item | {"activeUntil": "2026-11-11T00:00:00+00:00"}]}
    assert SIMULATE(third)["total"] == "10.00"
    with pytest.raises(PricingError) as refused:
        SIMULATE(given | {"usageItems": [usage(1, per_unit()) | half["usageItems"][0] | {
            "priceConfig": per_unit()}]})  # fmt: skip
    assert refused.value.field == "usageItems/0/activeFrom"


def test_currencies_are_never_mixed() -> None:
    with pytest.raises(PricingError) as refused:
        SIMULATE(usage_items=[usage(1, per_unit()), usage(1, per_unit(code="eur"))])
    assert refused.value.field == "usage_items/1/priceConfig/currency"
    assert "never mixed" in refused.value.reason


def test_a_credit_with_an_end_needs_to_know_when() -> None:
    with pytest.raises(PricingError) as refused:
        SIMULATE(
            usage_items=[usage(1, per_unit())],
            credits=[{"amount": 1, "expires_at": "2026-11-30T00:00:00Z"}],
        )
    assert refused.value.field == "periodEnd"


@pytest.mark.parametrize("residue", RESIDUES)
@given(st.data())
def test_shares_lose_and_invent_nothing(residue: str, data: st.DataObject) -> None:
    step = data.draw(st.sampled_from([1, 10, 100]))
    weights = [w * step for w in data.draw(st.lists(st.integers(0, 10**6), max_size=8))]
    total = step * data.draw(st.integers(0, sum(weights) // step))
    shares = split(total, weights, step, residue)
    assert sum(shares) == total
    assert all(0 <= part <= weight for part, weight in zip(shares, weights, strict=True))
    assert all(part % step == 0 for part in shares)


@given(
    CURRENCIES,
    st.data(),
    st.lists(st.decimals(0, 100, places=3), max_size=3),
    st.lists(st.integers(0, 10**8), max_size=3),
    st.decimals(0, 50, places=4),
    st.booleans(),
    st.sampled_from(["invoice", "line"]),
)
def test_an_invoice_adds_up(
    of: Any, data: st.DataObject, percents: list[Decimal], credits: list[int],
    rate: Decimal, inclusive: bool, rounding: str,
) -> None:  # fmt: skip
    chosen = data.draw(st.lists(st.tuples(QUANTITIES, prices(st.just(of))), max_size=3))
    items = [UsageItem(f"m{i}", q, price) for i, (q, price) in enumerate(chosen)]
    terms = Terms(
        discounts=[Discount("d", percent_off=each, metric="m0" if i else None)
                   for i, each in enumerate(percents)],
        credits=[Credit("c", "credit", Decimal(each)) for each in credits],
        tax_rate=rate, tax_inclusive=inclusive, tax_rounding=rounding,
    )  # fmt: skip
    made = make(of, items, terms)
    assert made.subtotal == sum(line.amount for line in made.lines)
    assert made.discounts == sum(line.discount for line in made.lines)
    assert made.credits == sum(line.credit for line in made.lines)
    assert all(line.left >= 0 for line in made.lines if line.amount >= 0)
    left = made.subtotal - made.discounts - made.credits
    assert made.total == left + (0 if inclusive else made.tax)
    for amount in (made.subtotal, made.discounts, made.credits, made.tax, made.total):
        assert amount % of.step == 0


@given(st.decimals(0, 10**9, places=6), st.integers(1, 10**6), st.integers(0, 10**6))
def test_the_parts_of_a_period_are_off_by_less_than_a_cent(
    amount: Decimal, seconds: int, cut: int
) -> None:
    usd, cut = currency("usd"), min(cut, seconds)
    one = prorated(amount, Fraction(cut, seconds), usd)
    other = prorated(amount, Fraction(seconds - cut, seconds), usd)
    assert abs(one + other - amount) <= 1


def test_a_share_outside_its_period_is_refused() -> None:
    def day(n: int) -> datetime:
        return datetime(2026, 11, n, tzinfo=UTC)

    assert share(day(1), day(16), day(1), day(21)) == Fraction(3, 4)
    for start, end in ((day(1), day(22)), (day(3), day(3)), (day(4), day(3))):
        with pytest.raises(PricingError):
            share(start, end, day(1), day(21))
