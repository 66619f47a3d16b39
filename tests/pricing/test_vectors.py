"""Worked prices from the field: every one whose model we offer comes out to the digit."""

import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pricing.definition import Price
from pricing.graduated import Graduated
from pricing.invoice import true_up
from pricing.money import currency, quantized, rounded
from pricing.package import Package
from pricing.per_unit import PerUnit
from pricing.proration import Fraction
from pricing.tiers import Tier
from pricing.volume import Volume

VECTORS = json.loads(
    (Path(__file__).resolve().parent.parent / "data" / "pricing_vectors.json").read_text(),
    parse_float=Decimal,
)
# Stripe has no price by percentage or by single events, nor one that starts over within a period;
# weighting by time is an aggregation.
NOT_OFFERED = {
    "percentage",
    "percentage_resolved",
    "percentage_single",
    "graduated_percentage",
    "dynamic",
    "bucketed",
    "weighted_sum",
}
USD = currency("usd")
MODES = {"ceil": "up", "floor": "down", "half_up": "half_up"}


def price_of(model: str, given: Mapping[str, Any], **terms: Any) -> Price:
    """A vector's price; its unit of money is taken for the minor one, for no rounding asks."""
    if "tiers" in given:
        table = tuple(
            Tier(
                None if tier["up_to"] is None else Decimal(tier["up_to"]),
                Decimal(tier["unit_amount"]),
                Decimal(tier["flat_amount"]),
            )
            for tier in given["tiers"]
        )
        terms["zero_usage"] = given.get("zero_usage", "first_tier_flat")
        return Price(USD, Graduated(table) if model == "graduated" else Volume(table), **terms)
    if model == "package":
        size, amount = int(given["package_size"]), Decimal(given["package_amount"])
        return Price(USD, Package(amount, size, given.get("round", "up")), **terms)
    return Price(USD, PerUnit(Decimal(given["unit_amount"])), **terms)


def exact(vector: Mapping[str, Any]) -> Decimal:
    """What we make of a vector, unrounded."""
    model, given, quantity = vector["model"], vector["params"], Decimal(vector["quantity"])
    prior = Decimal(given.get("prior_quantity", 0))
    match model:
        case "per_unit" | "package" | "graduated" | "volume":
            return price_of(model, given).charge(quantity)
        case "committed":
            base = given["base"]
            bounds = {
                f"{name}_charge": Decimal(given[name])
                for name in ("minimum", "maximum")
                if name in given
            }
            price = price_of(base["model"], base["params"], **bounds)
            if "prior_quantity" not in given:
                return price.charge(quantity)
            before = given.get("previously_billed")
            return price.charge_between(
                prior, quantity, billed_before=None if before is None else Decimal(before)
            )
        case "delta":  # here `quantity` is the whole, not what was added
            base = given["base"]
            return price_of(base["model"], base["params"]).charge_between(prior, quantity - prior)
        case "unit_config":
            base = given["base"]["params"]
            package = Package(Decimal(base["unit_amount"]), int(given["divide_by"]), "up")
            assert given["mode"] == "ceil"
            return Price(USD, package, free_units=Decimal(given["free_units"])).charge(quantity)
        case "unit_rounding":
            divided = quantity / Decimal(given.get("divide_by", 1))
            return quantized(divided, int(given["precision"]), MODES[given["mode"]])
        case "true_up":
            share = Fraction(given["days"], given["period_days"])
            return Decimal(true_up(Decimal(given["minimum"]), int(quantity), share, USD))
    raise AssertionError(f"no reading of {model}")


def test_the_file_is_what_it_was() -> None:
    offered = [vector for vector in VECTORS if vector["model"] not in NOT_OFFERED]
    assert (len(VECTORS), len(offered)) == (67, 54)
    assert {vector["model"] for vector in VECTORS} >= NOT_OFFERED


@pytest.mark.parametrize(
    "vector",
    [vector for vector in VECTORS if vector["model"] not in NOT_OFFERED],
    ids=lambda vector: f"{vector['id']}-{vector['model']}",
)
def test_vector(vector: Mapping[str, Any]) -> None:
    found = exact(vector)
    if vector["rounding"] != "none":
        mode, _, places = vector["rounding"].partition(":")
        found = quantized(found, int(places), mode)
    assert found == Decimal(vector["expected"]), vector["note"]


def test_a_vector_in_cents_is_what_the_invoice_bills() -> None:
    """Rounding to a whole cent is the invoice's own, and every such vector goes through it."""
    checked = 0
    for vector in VECTORS:
        if vector["model"] in ("per_unit", "volume", "graduated") and (
            vector["amount_unit"] == "minor"
        ):
            price = price_of(vector["model"], vector["params"])
            assert price.amount(Decimal(vector["quantity"])) == int(vector["expected"])
            checked += 1
    assert checked == 9
    assert rounded(Decimal("-232.5"), USD) == -233
