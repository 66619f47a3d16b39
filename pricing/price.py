"""Prices and the two forms they are written in.

The contract's `priceConfig` (`pricing.config`: major units, for people) and Stripe's Price object
(`pricing.stripe_price`: minor units, for Stripe); `read` takes either.
"""

from collections.abc import Mapping
from typing import Any

from pricing.config import from_config, to_config
from pricing.definition import Model, Price, Recurring
from pricing.stripe_price import from_stripe, to_stripe

__all__ = [
    "Model",
    "Price",
    "Recurring",
    "from_config",
    "from_stripe",
    "read",
    "to_config",
    "to_stripe",
]

_STRIPES_OWN = ("billing_scheme", "unit_amount", "unit_amount_decimal", "tiers_mode")


def read(given: Mapping[str, Any]) -> Price:
    """A price in either form. Raises: PricingError naming the field."""
    is_stripes = isinstance(given, Mapping) and (
        given.get("object") == "price" or any(name in given for name in _STRIPES_OWN)
    )
    return from_stripe(given) if is_stripes else from_config(given)
