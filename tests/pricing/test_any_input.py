"""Whatever comes in, out comes an answer or a PricingError: never another exception."""

import contextlib
import copy
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pricing import InvoiceSimulator, PricingError
from pricing.price import from_config, from_stripe, read

_NAMES = [
    "currency",
    "model",
    "unitPrice",
    "unit_price",
    "flatPrice",
    "packageSize",
    "round",
    "tiers",
    "upTo",
    "minimumCharge",
    "maximumCharge",
    "freeUnits",
    "zeroUsage",
    "amountUnit",
    "recurring",
    "interval",
    "usageType",
    "meter",
    "product",
    "nickname",
    "taxBehavior",
    "currencyOptions",
    "object",
    "billing_scheme",
    "tiers_mode",
    "unit_amount",
    "unit_amount_decimal",
    "flat_amount",
    "transform_quantity",
    "divide_by",
    "up_to",
    "currency_options",
    "custom_unit_amount",
    "metadata",
    "customerId",
    "periodStart",
    "periodEnd",
    "usageItems",
    "metric",
    "quantity",
    "priceConfig",
    "stripePrice",
    "activeFrom",
    "commitments",
    "minimumCommitment",
    "credits",
    "amount",
    "priority",
    "expiresAt",
    "effectiveAt",
    "metrics",
    "discounts",
    "type",
    "value",
    "percentOff",
    "amountOff",
    "taxRate",
    "taxRounding",
    "discountResidue",
    "interval_count",
    "usage_type",
]
_VALUES = [
    "usd",
    "EUR",
    "jpy",
    "zzz",
    "graduated",
    "tiered",
    "volume",
    "package",
    "per_unit",
    "flat",
    "price",
    "metered",
    "licensed",
    "month",
    "inf",
    "up",
    "down",
    "percent",
    "amount",
    "exclusive",
    "inclusive",
    "line",
    "invoice",
    "2026-11-01T00:00:00Z",
    "2026-12-01T00:00:00",
    "1e9999",
    "-1",
    "0.1",
    "1_000",
    "NaN",
    "Infinity",
    "1e-13",
    "999999999999999999999999999999999",
]
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-5, 10**6)
    | st.just(10**70)
    | st.floats()
    | st.decimals()
    | st.text(max_size=5)
    | st.sampled_from(_VALUES)
)
ANYTHING = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=6)
        | st.dictionaries(st.integers() | st.none(), inner, max_size=1)
    ),
    max_leaves=25,
)


_CONFIGS: list[dict[str, Any]] = [
    {"model": "graduated", "currency": "usd", "minimumCharge": 1, "maximumCharge": 2,
     "freeUnits": 3, "zeroUsage": "nothing", "amountUnit": "minor", "product": "p",
     "recurring": {"interval": "month", "intervalCount": 1, "usageType": "metered", "meter": "m"},
     "tiers": [{"upTo": 9, "unitPrice": 1, "flatPrice": 2}, {"upTo": None, "unitPrice": 1}],
     "currencyOptions": [{"model": "per_unit", "currency": "eur", "unitPrice": 1}]},
    {"model": "package", "currency": "usd", "unitPrice": 1, "packageSize": 10, "round": "up"},
]  # fmt: skip
_STRIPES: list[dict[str, Any]] = [
    {"object": "price", "currency": "usd", "billing_scheme": "tiered", "tiers_mode": "volume",
     "tiers": [{"up_to": 9, "unit_amount": 1, "unit_amount_decimal": "1", "flat_amount": 2},
               {"up_to": None, "unit_amount_decimal": "1"}],
     "recurring": {"interval": "month", "usage_type": "metered", "meter": {"id": "m"}},
     "currency_options": {"eur": {"tiers": [{"up_to": None, "flat_amount": 1}],
                                  "tax_behavior": "inclusive"}},
     "nickname": "n", "product": "p", "tax_behavior": "inclusive"},
    {"object": "price", "currency": "usd", "billing_scheme": "per_unit", "unit_amount": 1,
     "transform_quantity": {"divide_by": 10, "round": "down"}, "custom_unit_amount": None},
    {"currency": "usd", "unit_amount_decimal": "1", "metadata": {"stripemeter_model": "flat"}},
]  # fmt: skip
_SCENARIOS: list[dict[str, Any]] = [
    {"customerId": "c", "periodStart": "2026-11-01T00:00:00Z", "currency": "usd",
     "periodEnd": "2026-12-01T00:00:00Z", "taxRate": 19, "taxBehavior": "inclusive",
     "taxRounding": "line", "discountResidue": "last_line", "minimumCommitment": 100,
     "usageItems": [
         {"metric": "a", "quantity": 12, "priceConfig": _CONFIGS[0]},
         {"metric": "b", "quantity": 12, "stripePrice": _STRIPES[1]},
         {"metric": "c", "quantity": 1, "activeFrom": "2026-11-02T00:00:00Z",
          "priceConfig": {"model": "flat", "currency": "usd", "flatPrice": 9}},
     ],
     "discounts": [{"percentOff": 5, "name": "d"}, {"type": "amount", "value": 5, "metric": "a"}],
     "commitments": 5,
     "credits": [{"amount": 5, "priority": 1, "expiresAt": "2027-01-01T00:00:00Z",
                  "metrics": ["a"], "currency": "usd"}]},
]  # fmt: skip


@st.composite
def _spoilt(draw: st.DrawFn, goods: list[dict[str, Any]]) -> Any:
    """Something good with one to three places, however deep, put wrong."""
    whole = [copy.deepcopy(draw(st.sampled_from(goods)))]
    for _ in range(draw(st.integers(1, 3))):
        holder: Any = whole
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(holder[key], dict | list) and draw(st.integers(0, 4)):
                holder = holder[key]
                continue
            holder[key] = draw(ANYTHING)
            break
    return whole[0]


@settings(max_examples=500)
@given(_spoilt([*_CONFIGS, *_STRIPES]) | ANYTHING)
def test_prices(given: Any) -> None:
    for reader in (from_config, from_stripe, read):
        with contextlib.suppress(PricingError):
            price = reader(given)
            price.amount(Decimal(12))


@settings(max_examples=500)
@given(_spoilt(_SCENARIOS) | ANYTHING)
def test_scenarios(given: Any) -> None:
    with contextlib.suppress(PricingError):
        result = InvoiceSimulator().simulate(given)
        assert result["totalMinor"] >= 0


def test_what_is_spoilt_was_good() -> None:
    for good in _CONFIGS:
        from_config(good)
    for good in _STRIPES:
        from_stripe(good)
    for good in _SCENARIOS:
        InvoiceSimulator().simulate(good)
