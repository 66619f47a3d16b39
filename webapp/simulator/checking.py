"""From what was typed to prices, with every mistake beside the field it was made in."""

import re
from dataclasses import dataclass
from decimal import Decimal

from pricing import PricingError, money
from pricing.definition import Price
from pricing.numbers import MAX_AMOUNT, bounded
from pricing.price import from_config
from webapp.simulator.form import Form, PriceForm, config, number
from webapp.simulator.form import money as amount

_AMOUNTS = ("unit", "fee", "min", "max")
_FIELD_OF = {
    "unitPrice": "unit",
    "packageSize": "size",
    "round": "round",
    "flatPrice": "fee",
    "minimumCharge": "min",
    "maximumCharge": "max",
    "freeUnits": "free",
    "model": "model",
    "currency": "model",
}
_TIER_FIELD = re.compile(r"tiers/([0-9]+)(?:/(upTo|unitPrice|flatPrice))?")
_IN_TIER = {"upTo": "to", "unitPrice": "unit", "flatPrice": "flat", None: "unit"}


@dataclass(frozen=True)
class Checked:
    """prices: by letter, those that are good.  errors: by the field's name, a sentence each."""

    prices: dict[str, Price]
    errors: dict[str, str]
    quantity: Decimal | None
    range: Decimal | None


def check(form: Form) -> Checked:
    """Read every field; none is trusted, none stops the others."""
    errors: dict[str, str] = {}
    try:
        money.currency(form.currency)
    except PricingError as error:
        errors["currency"] = _sentence(error.reason)
    quantity = _number("quantity", form.quantity, errors)
    span = _number("range", form.range, errors)
    if span == 0:
        errors["range"], span = "Must be greater than 0.", None
    prices = {}
    for price in form.prices:
        found = _fields(price)
        if not found and "currency" not in errors:
            try:
                prices[price.letter] = from_config(config(form, price))
            except PricingError as error:
                found = {_field(price, error.field): _sentence(error.reason)}
        errors |= found
    return Checked(prices, errors, quantity, span)


def _number(
    name: str, typed: str, errors: dict[str, str], *, is_money: bool = False
) -> Decimal | None:
    """The number in a field; None where it is empty or refused, which `errors` then says."""
    if not typed:
        return None
    try:
        if is_money:
            return bounded(amount(typed), name, below=MAX_AMOUNT)
        return bounded(number(typed), name)
    except PricingError as error:
        errors[name] = _sentence(error.reason)
        if is_money and "," in typed:
            errors[name] = "Write decimals with a point, and no commas: 0.008, 1250."
        return None


def _fields(price: PriceForm) -> dict[str, str]:
    """What can be said of each field by itself, all at once."""
    errors: dict[str, str] = {}
    asked = {"per_unit": ("unit",), "package": ("unit", "size"), "flat": ("fee",)}
    for name in (*asked.get(price.model, ()), "min", "max", "free"):
        _number(f"{price.letter}-{name}", getattr(price, name), errors, is_money=name in _AMOUNTS)
    for i, tier in enumerate(price.tiers if price.is_tiered else ()):
        at = f"{price.letter}-{i}"
        if i < len(price.tiers) - 1:
            _number(f"{at}-to", tier.to, errors)
            if not tier.to:
                errors[f"{at}-to"] = "Up to which quantity? Only the last tier is open."
        _number(f"{at}-unit", tier.unit, errors, is_money=True)
        _number(f"{at}-flat", tier.flat, errors, is_money=True)
        if not tier.unit and not tier.flat:
            errors.setdefault(f"{at}-unit", "Needs a price per unit, a flat price, or both.")
    return errors


def _field(price: PriceForm, path: str) -> str:
    """The page's name of a config's field."""
    if found := _TIER_FIELD.fullmatch(path):
        return f"{price.letter}-{found[1]}-{_IN_TIER[found[2]]}"
    return f"{price.letter}-{_FIELD_OF.get(path, 'model')}"


def _sentence(reason: str) -> str:
    return reason[:1].upper() + reason[1:] + ("" if reason.endswith(".") else ".")
