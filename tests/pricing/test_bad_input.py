"""What has no honest price is refused by name: never priced 0, never another exception."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from pricing import InvoiceSimulator, PricingError
from pricing.price import from_config, from_stripe, read

SIMULATE = InvoiceSimulator().simulate
PER_UNIT = {"model": "per_unit", "currency": "usd", "unitPrice": "0.01"}
PACKAGE = {"model": "package", "currency": "usd", "unitPrice": 5, "packageSize": 100}
STRIPES = {"currency": "usd", "unit_amount": 1}
OPEN = {"upTo": None, "unitPrice": 1}
HUGE = 10**5000  # Python itself refuses to write so many digits

# What is no number, with a word of why.
NO_NUMBERS: list[tuple[Any, str]] = [
    (True, "must be a number"),
    (b"1", "must be a number"),
    ([1], "must be a number"),
    ({}, "must be a number"),
    (1j, "must be a number"),
    ("", "not a plain decimal"),
    ("abc", "not a plain decimal"),
    (" 1", "not a plain decimal"),
    ("1\n", "not a plain decimal"),
    ("1_000", "not a plain decimal"),
    ("1,000", "not a plain decimal"),
    ("0x1F", "not a plain decimal"),
    ("١", "not a plain decimal"),
    ("NaN", "not a plain decimal"),
    ("Infinity", "not a plain decimal"),
    (float("nan"), "not a plain decimal"),
    (float("inf"), "not a plain decimal"),
    (Decimal("NaN"), "not a plain decimal"),
    (Decimal("sNaN"), "not a plain decimal"),
    (Decimal("-Infinity"), "not a plain decimal"),
    (-1, "must not be negative"),
    ("-0.01", "must not be negative"),
    (1e-13, "more than 12 decimals"),
    ("0.0000000000001", "more than 12 decimals"),
    (Decimal("1E-13"), "more than 12 decimals"),
    (HUGE, "is too large"),
    ("9" * 5000, "not a plain decimal"),
    (Decimal("1E+999999"), "too large"),
    (10**30, "must be less than"),
    (1e300, "not a plain decimal"),
]


def refusal(call: Callable[..., Any], *given: Any) -> PricingError:
    with pytest.raises(PricingError) as refused:
        call(*given)
    assert refused.value.reason
    return refused.value


def graduated(*tiers: Any, model: str = "graduated") -> dict[str, Any]:
    return {"model": model, "currency": "usd", "tiers": list(tiers)}


def tier(up_to: Any, price: Any = 1) -> dict[str, Any]:
    return {"upTo": up_to, "unitPrice": price}


def usage(**changes: Any) -> dict[str, Any]:
    return {"metric": "m", "quantity": 1, "priceConfig": PER_UNIT} | changes


def scenario(**changes: Any) -> dict[str, Any]:
    return {"usageItems": [usage()]} | changes


@pytest.mark.parametrize(("value", "why"), NO_NUMBERS, ids=range(len(NO_NUMBERS)))
def test_no_numbers(value: Any, why: str) -> None:
    wanted = {
        "unitPrice": refusal(from_config, PER_UNIT | {"unitPrice": value}),
        "minimumCharge": refusal(from_config, PER_UNIT | {"minimumCharge": value}),
        "freeUnits": refusal(from_config, PER_UNIT | {"freeUnits": value}),
        "tiers/1/upTo": refusal(from_config, graduated(tier(0.5), tier(value), OPEN)),
        "tiers/0/unitPrice": refusal(from_config, graduated(tier(1, value), OPEN)),
        "tiers/0/flatPrice": refusal(from_config, graduated({"flatPrice": value})),
        "unit_amount": refusal(from_stripe, STRIPES | {"unit_amount": value}),
        "usageItems/0/quantity": refusal(SIMULATE, scenario(usageItems=[usage(quantity=value)])),
        "minimumCommitment": refusal(SIMULATE, scenario(minimumCommitment=value)),
        "credits/0/amount": refusal(SIMULATE, scenario(credits=[{"amount": value}])),
        "discounts/0/amountOff": refusal(SIMULATE, scenario(discounts=[{"amountOff": value}])),
    }
    for field, error in wanted.items():
        assert (error.field, why in error.reason) == (field, True), str(error)


@pytest.mark.parametrize("model", ["graduated", "tiered", "volume"])
@pytest.mark.parametrize(
    ("tiers", "field", "why"),
    [
        ([], "tiers", "at least one"),
        ([tier(10)], "tiers/0/upTo", "leaves a gap: usage above 10"),
        ([tier(10), tier(20)], "tiers/1/upTo", "leaves a gap: usage above 20"),
        ([OPEN, tier(10)], "tiers/0/upTo", "only the last"),
        ([OPEN, OPEN], "tiers/0/upTo", "only the last"),
        ([tier(10), tier(10), OPEN], "tiers/1/upTo", "overlaps"),
        ([tier(10), tier(9), OPEN], "tiers/1/upTo", "overlaps: must be greater than 10"),
        ([tier(0), OPEN], "tiers/0/upTo", "overlaps"),
        ([tier("x"), OPEN], "tiers/0/upTo", "not a plain decimal"),
        ([{"upTo": 10}, OPEN], "tiers/0", "needs a price"),
        ([tier(10, -1), OPEN], "tiers/0/unitPrice", "negative"),
        ([{"up_to": 10, "upTo": 20, "unitPrice": 1}, OPEN], "tiers/0/upTo", "given twice"),
        ([tier(10) | {"unitprice": 1}, OPEN], "tiers/0/unitprice", "not a name"),
        ([7], "tiers/0", "must be an object"),
        ([None], "tiers/0", "must be an object"),
        ([tier(i + 1) for i in range(1001)] + [OPEN], "tiers", "more than 1000"),
    ],
)
def test_tier_tables(model: str, tiers: list[Any], field: str, why: str) -> None:
    error = refusal(from_config, graduated(*tiers, model=model))
    assert (error.field, why in error.reason) == (field, True), str(error)


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (None, ""),
        ([], ""),
        ({}, "currency"),
        (PER_UNIT | {"currency": "xxx"}, "currency"),
        (PER_UNIT | {"currency": ["usd"]}, "currency"),
        (PER_UNIT | {"currency": HUGE}, "currency"),
        ({"currency": "usd"}, "model"),
        (PER_UNIT | {"model": "percentage"}, "model"),
        (PER_UNIT | {"model": "Per_Unit"}, "model"),
        (PER_UNIT | {"model": ["per_unit"]}, "model"),
        (PER_UNIT | {"model": HUGE}, "model"),
        (PER_UNIT | {"unitPrice": None}, "unitPrice"),
        (PER_UNIT | {"unit_price": 1}, "unit_price"),
        (PER_UNIT | {"unitprice": 1}, "unitprice"),
        (PER_UNIT | {"tiers": [OPEN]}, "tiers"),
        (PER_UNIT | {"unitPrice": 10**16}, "unitPrice"),
        (PER_UNIT | {5: 1}, ""),
        (PER_UNIT | {"minimumCharge": 2, "maximumCharge": 1}, "minimumCharge"),
        (PER_UNIT | {"zeroUsage": "never"}, "zeroUsage"),
        (PER_UNIT | {"amountUnit": "cents"}, "amountUnit"),
        (PER_UNIT | {"recurring": {"interval": "fortnight"}}, "recurring/interval"),
        (PER_UNIT | {"recurring": {"intervl": "month"}}, "recurring/intervl"),
        (PER_UNIT | {"currencyOptions": [{}]}, "currencyOptions/0/currency"),
        ({"model": "flat", "currency": "usd"}, "flatPrice"),
        ({"model": "flat", "currency": "usd", "flatPrice": 1, "unitPrice": 1}, "flatPrice"),
        (PACKAGE | {"packageSize": None}, "packageSize"),
        (PACKAGE | {"packageSize": 0}, "packageSize"),
        (PACKAGE | {"packageSize": 1.5}, "packageSize"),
        (PACKAGE | {"packageSize": True}, "packageSize"),
        (PACKAGE | {"round": "nearest"}, "round"),
        (PACKAGE | {"round": HUGE}, "round"),
        (graduated() | {"tiers": None}, "tiers"),
        (graduated() | {"tiers": {"0": OPEN}}, "tiers"),
        (graduated(OPEN) | {"unitPrice": 1}, "unitPrice"),
    ],
)
def test_configs(config: Any, field: str) -> None:
    assert refusal(from_config, config).field == field
    assert refusal(read, config).field == field


TIERED = STRIPES | {"unit_amount": None, "billing_scheme": "tiered", "tiers_mode": "graduated"}


@pytest.mark.parametrize(
    ("price", "field"),
    [
        (None, ""),
        ("price_123", ""),
        ({}, "currency"),
        (STRIPES | {"unit_amount": None}, "unit_amount_decimal"),
        (STRIPES | {"unit_amount": 10**18}, "unit_amount"),
        (STRIPES | {"unit_amount_decimal": "1e99"}, "unit_amount_decimal"),
        (STRIPES | {"custom_unit_amount": {"enabled": True}}, "custom_unit_amount"),
        (STRIPES | {"billing_scheme": "percent"}, "billing_scheme"),
        (STRIPES | {"tiers": [{"up_to": None, "unit_amount": 1}]}, "billing_scheme"),
        (STRIPES | {"tiers_mode": "volume"}, "billing_scheme"),
        (STRIPES | {"tax_behavior": ["inclusive"]}, "tax_behavior"),
        (STRIPES | {"tax_behavior": HUGE}, "tax_behavior"),
        (STRIPES | {"recurring": {"interval": ["month"]}}, "recurring/interval"),
        (STRIPES | {"recurring": {"interval_count": HUGE}}, "recurring/interval_count"),
        (STRIPES | {"transform_quantity": {"round": "up"}}, "transform_quantity/divide_by"),
        (STRIPES | {"transform_quantity": {"divide_by": 9}}, "transform_quantity/round"),
        (STRIPES | {"currency_options": {"zzz": STRIPES}}, "currency_options/zzz"),
        (STRIPES | {"currency_options": {"eur": 5}}, "currency_options/eur"),
        (STRIPES | {"currency_options": {5: STRIPES, "eur": STRIPES}}, "currency_options"),
        (
            STRIPES | {"currency_options": {"eur": {"unit_amount": -1}}},
            "currency_options/eur/unit_amount",
        ),
        (
            STRIPES | {"currency_options": {"eur": {"unit_amount": 1, "tax_behavior": "x"}}},
            "currency_options/eur/tax_behavior",
        ),
        (TIERED, "tiers"),
        (TIERED | {"tiers": []}, "tiers"),
        (TIERED | {"tiers": {}}, "tiers"),
        (TIERED | {"tiers": [5]}, "tiers/0"),
        (TIERED | {"tiers": [{"up_to": 5, "unit_amount": 1}]}, "tiers/0/up_to"),
        (TIERED | {"tiers": [{"up_to": None, "unit_amount": 1}], "tiers_mode": 1}, "tiers_mode"),
    ],
)
def test_stripes_prices(price: Any, field: str) -> None:
    assert refusal(from_stripe, price).field == field


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"usageItems": []}, "usageItems"),
        ({"usageItems": {}}, "usageItems"),
        ({"usageItems": [None]}, "usageItems/0"),
        ({"usageItms": []}, "usageItms"),
        ({"usageItems": [usage(metric=None)]}, "usageItems/0/metric"),
        ({"usageItems": [usage(metric="")]}, "usageItems/0/metric"),
        ({"usageItems": [usage(metric=7)]}, "usageItems/0/metric"),
        ({"usageItems": [usage(metric="m" * 101)]}, "usageItems/0/metric"),
        ({"usageItems": [usage(quantity=None)]}, "usageItems/0/quantity"),
        ({"usageItems": [usage(priceConfig=None)]}, "usageItems/0/priceConfig"),
        ({"usageItems": [usage(stripePrice=STRIPES)]}, "usageItems/0/priceConfig"),
        ({"usageItems": [usage(), usage(unit="GB")]}, "usageItems/1/unit"),
        (
            {"usageItems": [usage(), usage(priceConfig=PER_UNIT | {"currency": "eur"})]},
            "usageItems/1/priceConfig/currency",
        ),
        (
            {
                "usageItems": [
                    usage(),
                    {"metric": "m", "quantity": 1, "stripePrice": STRIPES | {"currency": "eur"}},
                ]
            },
            "usageItems/1/stripePrice/currency",
        ),
        ({"currency": "eur"}, "usageItems/0/priceConfig/currency"),
        ({"credits": [{"amount": 1, "currency": "eur"}]}, "credits/0/currency"),
        ({"credits": [{"amount": 1, "metrics": "m"}]}, "credits/0/metrics"),
        ({"credits": [{"amount": 1, "expires": "2027-01-01T00:00:00Z"}]}, "credits/0/expires"),
        ({"commitments": [{"amount": 1, "priority": 101}]}, "commitments/0/priority"),
        ({"minimumCommitment": 10**16}, "minimumCommitment"),
        ({"discounts": [{}]}, "discounts/0"),
        ({"discounts": [{"percentOff": 101}]}, "discounts/0/percentOff"),
        ({"discounts": [{"percentOff": 10, "amountOff": 10}]}, "discounts/0"),
        ({"discounts": [{"type": "percent", "value": 5, "percentOff": 50}]}, "discounts/0"),
        ({"taxRate": -1}, "taxRate"),
        ({"taxRate": 1000}, "taxRate"),
        ({"taxRate": "19%"}, "taxRate"),
        ({"taxBehavior": "none"}, "taxBehavior"),
        ({"periodStart": "2026-11-01T00:00:00"}, "periodStart"),
        ({"periodStart": 1764547200}, "periodStart"),
        ({"periodStart": "0001-01-01T00:00:00+23:59"}, "periodStart"),
        ({"periodEnd": "9999-12-31T23:59:59-23:59"}, "periodEnd"),
        (
            {"periodStart": "2026-12-01T00:00:00Z", "periodEnd": "2026-12-01T00:00:00Z"},
            "periodEnd",
        ),
    ],
)
def test_scenarios(changes: dict[Any, Any], field: str) -> None:
    assert refusal(SIMULATE, scenario(**changes)).field == field


@pytest.mark.parametrize(
    "config",
    [
        PER_UNIT,
        PACKAGE,
        PER_UNIT | {"minimumCharge": 1},
        {"model": "flat", "currency": "usd", "flatPrice": 1},
        graduated(tier(10), OPEN),
        graduated(tier(10), OPEN, model="volume"),
    ],
)
@pytest.mark.parametrize(
    "quantity",
    [Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Decimal(-1), Decimal(10) ** 200, True],
)
def test_a_price_asked_for_no_quantity(config: dict[str, Any], quantity: Any) -> None:
    price = from_config(config)
    for asked in (price.charge, price.amount, price.parts):
        assert refusal(asked, quantity).field == "quantity"


def test_aliases_upon_aliases_are_not_written_out() -> None:
    deep: list[Any] = []
    for _ in range(60):  # 2^60 members, for whoever prints them
        deep = [deep, deep]
    assert refusal(from_config, PER_UNIT | {"model": deep}).reason.startswith(
        "is not a pricing model: of type list"
    )
    assert refusal(from_config, PER_UNIT | {"zeroUsage": deep}).field == "zeroUsage"
    assert refusal(from_stripe, STRIPES | {"tax_behavior": deep}).field == "tax_behavior"
