"""A comparison as the document that is saved: the contract's prices, not the page's fields."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pricing import PricingError
from pricing.price import read as read_price
from webapp.simulator.form import Form, PriceForm, number, of_price
from webapp.simulator.form import read as read_query


def document(state: Form, configs: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """`{currency, quantity, range?, prices: [{name, priceConfig}]}`, digits as decimal strings."""
    made: dict[str, Any] = {
        "currency": state.currency,
        "quantity": number(state.quantity) or "0",
        "prices": [
            {"name": price.name, "priceConfig": configs[price.letter]}
            for price in state.prices
            if price.letter in configs
        ],
    }
    if state.range:
        made["range"] = number(state.range)
    return made


def read(given: Mapping[str, Any]) -> Form:
    """The page's fields for a saved document; what cannot be shown in them is left out.

    Documents also come from the API, where anybody may save what they like.
    """
    prices: list[PriceForm] = []
    found = given.get("prices")
    for entry in found if isinstance(found, list) else []:
        letter = "abcd"[len(prices) : len(prices) + 1]
        if not letter or not isinstance(entry, Mapping):
            continue
        config = entry.get("priceConfig", entry.get("stripePrice"))
        try:
            prices.append(of_price(letter, read_price(config), _text(entry.get("name"))))
        except (PricingError, ValueError):
            continue
    if not prices:
        return read_query({})
    return Form(
        currency=_text(given.get("currency"))[:3].lower() or "usd",
        quantity=_text(given.get("quantity")),
        range=_text(given.get("range")),
        prices=tuple(prices),
    )


def _text(value: Any) -> str:
    return str(value)[:60] if isinstance(value, str | int | Decimal) else ""
