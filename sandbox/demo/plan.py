"""What the demo consists of: what is metered, what it costs, and who uses it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MONTH_BEGINS: Mapping[str, int] = {"day_of_month": 1, "hour": 0, "minute": 0, "second": 0}


@dataclass(frozen=True)
class Metered:
    """A metric, its meter (of the same event name), and its price in Stripe's own words.

    most: the largest quantity that one event of the demo's traffic has.
    """

    metric: str
    name: str
    unit: str
    aggregation: str
    most: int
    price: Mapping[str, Any]


@dataclass(frozen=True)
class DemoCustomer:
    """anchor: when its months begin, as Stripe's `billing_cycle_anchor_config`."""

    ref: str
    name: str
    metrics: tuple[str, ...]
    anchor: Mapping[str, int] = field(default_factory=lambda: MONTH_BEGINS)


METERED = (
    Metered(
        "api_calls",
        "API calls",
        "calls",
        "sum",
        100,
        {
            "billing_scheme": "tiered",
            "tiers_mode": "graduated",
            "tiers": [
                {"up_to": 500, "unit_amount_decimal": "0"},
                {"up_to": 50_000, "unit_amount_decimal": "0.8"},
                {"up_to": "inf", "unit_amount_decimal": "0.5"},
            ],
        },
    ),
    Metered(
        "storage_gb",
        "Storage",
        "GB",
        "sum",
        12,
        {"unit_amount": 500, "transform_quantity": {"divide_by": 100, "round": "up"}},
    ),
    # Stripe has no such formula: what goes to its `sum` meter is by how much the peak has grown.
    Metered("seats", "Seats at the peak", "seats", "max", 30, {"unit_amount": 1200}),
)
CUSTOMERS = (
    DemoCustomer("aurora", "Aurora Labs", ("api_calls", "storage_gb", "seats")),
    DemoCustomer("birch", "Birch & Sons", ("api_calls", "storage_gb")),
    DemoCustomer(
        "cedar",
        "Cedar Analytics",
        ("api_calls", "seats"),
        {"day_of_month": 15, "hour": 10, "minute": 23, "second": 45},
    ),
    DemoCustomer("delta", "Delta Freight", ("api_calls", "storage_gb")),
    DemoCustomer("ember", "Ember Studio", ("storage_gb", "seats")),
)


def metered(metric: str) -> Metered:
    return next(each for each in METERED if each.metric == metric)
