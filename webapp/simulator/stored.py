"""A comparison as the document that is saved: the contract's prices, not the page's fields."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pricing.price import Price
from pricing.price import read as read_price
from webapp.simulator.form import LETTERS, Form, PriceForm, number, of_price


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


@dataclass(frozen=True)
class Opened:
    """left_out: what the fields cannot hold, a sentence each; the document still has it."""

    form: Form
    left_out: list[str]


def read(given: Mapping[str, Any]) -> Opened:
    """The page's fields for a saved document, and what they cannot show of it.

    Documents also come from the API, where anybody may save what they like.
    """
    prices: list[PriceForm] = []
    left_out: list[str] = []
    currency: str | None = None
    found = given.get("prices")
    for i, entry in enumerate(found if isinstance(found, list) else []):
        try:
            name, price = _entry(entry)
            currency = currency or price.currency.code
            if price.currency.code != currency:
                raise ValueError(f"it is in {price.currency.code}, the others in {currency}")
            if len(prices) == len(LETTERS):
                raise ValueError(f"only {len(LETTERS)} are shown")
            prices.append(of_price(LETTERS[len(prices)], price, name))
        except ValueError as error:
            left_out.append(f"Price {i + 1} is not shown: {error}.")
    form = Form(
        currency=currency or "usd",
        quantity=_text(given.get("quantity")),
        range=_text(given.get("range")),
        prices=tuple(prices) or (PriceForm("a"),),
    )
    if not prices and not left_out:
        left_out.append("It holds no prices that this page could show.")
    return Opened(form, left_out)


def _entry(entry: Any) -> tuple[str, Price]:
    if not isinstance(entry, Mapping):
        raise ValueError("it is no price")
    return _text(entry.get("name")), read_price(
        entry.get("priceConfig", entry.get("stripePrice", entry))
    )


def _text(value: Any) -> str:
    return str(value)[:60] if isinstance(value, str | int | Decimal) else ""
