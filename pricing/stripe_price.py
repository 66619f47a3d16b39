"""Stripe's Price object, read and written. Source: docs.stripe.com/api/prices.

Reading takes what the API gives (tiers must be expanded) as well as creation parameters.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pricing import money
from pricing.definition import ZERO_USAGE, Model, Price, Recurring
from pricing.errors import PricingError
from pricing.flat import Flat
from pricing.graduated import Graduated
from pricing.numbers import MAX_AMOUNT, bounded, plain
from pricing.package import Package
from pricing.per_unit import PerUnit
from pricing.tiers import Tier
from pricing.volume import Volume

# How a fixed fee is told from a price per seat, which Stripe's price objects cannot tell.
FLAT_MARK = ("stripemeter_model", "flat")


def from_stripe(price: Mapping[str, Any]) -> Price:
    """Read a Stripe Price object: expanded tiers, `unit_amount_decimal`, `transform_quantity`.

    Raises: PricingError naming the field, also for what cannot be priced by quantity
            (`custom_unit_amount`) and for tiers that were not expanded.
    """
    if not isinstance(price, Mapping):
        raise PricingError("", "must be a Stripe Price object")
    currency = money.currency(price.get("currency"))
    others = price.get("currency_options") or {}
    if not isinstance(others, Mapping):
        raise PricingError("currency_options", "must be an object")
    if not all(isinstance(code, str) for code in others):
        raise PricingError("currency_options", "must be named by currency codes")
    recurring = _recurring(price.get("recurring"))
    return Price(
        currency=currency,
        model=_model(price, price, ""),
        recurring=recurring,
        product=_identifier(price.get("product"), "product"),
        nickname=_identifier(price.get("nickname"), "nickname"),
        tax_behavior=price.get("tax_behavior"),
        others=tuple(
            _option(price, code, option)
            for code, option in sorted(others.items())
            if code.lower() != currency.code
        ),
    )


def _option(price: Mapping[str, Any], code: str, option: Any) -> Price:
    field = f"currency_options/{code}"
    if not isinstance(option, Mapping):
        raise PricingError(field, "must be an object")
    model = _model(price, option, field + "/")
    of = money.currency(code, field)
    try:
        return Price(of, model, tax_behavior=option.get("tax_behavior"))
    except PricingError as error:
        raise error.within(field) from None


def _model(price: Mapping[str, Any], amounts: Mapping[str, Any], at: str) -> Model:
    """The model that `price` describes, with the amounts of one of its currencies."""
    if amounts.get("custom_unit_amount"):
        raise PricingError(f"{at}custom_unit_amount", "is chosen by the customer: not a price")
    transform = price.get("transform_quantity")
    if price.get("billing_scheme") == "tiered":
        if transform:
            raise PricingError("transform_quantity", "cannot stand beside tiers")
        return _tiered(price, amounts, at)
    if price.get("billing_scheme") not in (None, "per_unit"):
        raise PricingError("billing_scheme", "must be 'per_unit' or 'tiered'")
    if price.get("tiers") or price.get("tiers_mode"):
        raise PricingError("billing_scheme", "must be 'tiered' where there are tiers")
    unit = _amount(amounts, "unit_amount", at)
    if unit is None:
        raise PricingError(f"{at}unit_amount_decimal", "is required for billing_scheme=per_unit")
    if transform:
        return _package(unit, transform)
    metadata = price.get("metadata")
    if isinstance(metadata, Mapping) and metadata.get(FLAT_MARK[0]) == FLAT_MARK[1]:
        return Flat(unit)
    return PerUnit(unit)


def _package(unit: Decimal, transform: Any) -> Package:
    if not isinstance(transform, Mapping):
        raise PricingError("transform_quantity", "must be an object")
    size = bounded(transform.get("divide_by"), "transform_quantity/divide_by", decimals=0)
    try:
        return Package(unit, int(size), str(transform.get("round")))
    except PricingError as error:
        name = "divide_by" if error.field == "package_size" else error.field
        raise PricingError(f"transform_quantity/{name}", error.reason) from None


def _tiered(price: Mapping[str, Any], amounts: Mapping[str, Any], at: str) -> Graduated | Volume:
    given = amounts.get("tiers")
    if given is None:
        expand = "currency_options" if at else "tiers"
        expand += ".tiers" if at else ""
        raise PricingError(f"{at}tiers", f"are missing: retrieve the price with expand[]={expand}")
    if not isinstance(given, list | tuple):
        raise PricingError(f"{at}tiers", "must be a list")
    table = tuple(_tier(tier, f"{at}tiers/{i}") for i, tier in enumerate(given))
    mode = price.get("tiers_mode")
    if mode not in ("graduated", "volume"):
        raise PricingError("tiers_mode", "must be 'graduated' or 'volume'")
    try:
        return Graduated(table) if mode == "graduated" else Volume(table)
    except PricingError as error:
        raise PricingError(at + error.field, error.reason) from None


def _tier(given: Any, field: str) -> Tier:
    if not isinstance(given, Mapping):
        raise PricingError(field, "must be an object")
    bound = given.get("up_to")
    up_to = None if bound in (None, "inf") else bounded(bound, f"{field}/up_to")
    return Tier(
        up_to,
        _amount(given, "unit_amount", f"{field}/"),
        _amount(given, "flat_amount", f"{field}/"),
    )


def _amount(given: Mapping[str, Any], name: str, at: str) -> Decimal | None:
    """`…_decimal` where there is one, which is exact; else the integer."""
    for member in (f"{name}_decimal", name):
        if given.get(member) is not None:
            return bounded(given[member], at + member, below=MAX_AMOUNT)
    return None


def _recurring(given: Any) -> Recurring | None:
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise PricingError("recurring", "must be an object")
    return Recurring(
        interval=given.get("interval", "month"),
        interval_count=given.get("interval_count") or 1,
        usage_type=given.get("usage_type") or "licensed",
        meter=_identifier(given.get("meter"), "recurring/meter"),
    )


def _identifier(given: Any, field: str) -> str | None:
    """A text, or an expanded object's id."""
    if isinstance(given, Mapping):
        given = given.get("id")
    if given is not None and not isinstance(given, str):
        raise PricingError(field, "must be a text")
    return given


def to_stripe(price: Price) -> dict[str, Any]:
    """The parameters that create the price in Stripe; decimals as plain strings.

    Raises: PricingError for what Stripe's prices cannot express.
    """
    _refuse_ours(price, "")
    for other in price.others:
        at = f"currency_options/{other.currency.code}"
        _refuse_ours(other, at + "/")
        if _shape(other.model) != _shape(price.model):
            raise PricingError(at, "must be of the same model, and of the same package, in Stripe")
    parameters: dict[str, Any] = {"currency": price.currency.code}
    parameters |= _amounts(price.model)
    match price.model:
        case Graduated() | Volume():
            parameters |= {"billing_scheme": "tiered", "tiers_mode": price.model.kind}
        case Package():
            parameters["transform_quantity"] = {
                "divide_by": price.model.size,
                "round": price.model.round,
            }
        case Flat():
            if price.recurring is not None and price.recurring.usage_type == "metered":
                raise PricingError("recurring/usage_type", "of a fixed fee must be 'licensed'")
            parameters["metadata"] = dict([FLAT_MARK])
        case PerUnit():
            parameters["billing_scheme"] = "per_unit"
    if price.recurring is not None:
        parameters["recurring"] = _recurring_parameters(price.recurring)
    for name in ("product", "nickname", "tax_behavior"):
        if getattr(price, name) is not None:
            parameters[name] = getattr(price, name)
    if price.others:
        parameters["currency_options"] = {
            other.currency.code: _option_parameters(other) for other in price.others
        }
    return parameters


def _refuse_ours(price: Price, at: str) -> None:
    """Refuse what only we can express, in a price or in one of its currency options."""
    for name in ("minimum_charge", "maximum_charge"):
        if getattr(price, name) is not None:
            raise PricingError(at + name, "is not something that a Stripe price can hold")
    if price.free_units:
        raise PricingError(at + "free_units", "are a first tier at 0 in Stripe: write them as one")
    if price.zero_usage != ZERO_USAGE[0]:
        raise PricingError(at + "zero_usage", "cannot be chosen in Stripe")


def _shape(model: Model) -> tuple[object, ...]:
    """What Stripe says once for all currencies."""
    return (model.kind, model.size, model.round) if isinstance(model, Package) else (model.kind,)


def _recurring_parameters(recurring: Recurring) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "interval": recurring.interval,
        "interval_count": recurring.interval_count,
        "usage_type": recurring.usage_type,
    }
    if recurring.meter is not None:
        parameters["meter"] = recurring.meter
    elif recurring.usage_type == "metered":
        raise PricingError("recurring/meter", "is required for a metered price")
    return parameters


def _option_parameters(other: Price) -> dict[str, Any]:
    parameters = _amounts(other.model)
    if other.tax_behavior is not None:
        parameters["tax_behavior"] = other.tax_behavior
    return parameters


def _amounts(model: Model) -> dict[str, Any]:
    match model:
        case Graduated() | Volume():
            return {"tiers": [_tier_parameters(t, i) for i, t in enumerate(model.tiers)]}
        case Flat():
            return {"unit_amount_decimal": plain(model.amount)}
        case PerUnit() | Package():
            return {"unit_amount_decimal": plain(model.unit_amount)}


def _tier_parameters(tier: Tier, position: int) -> dict[str, Any]:
    if tier.up_to is not None and tier.up_to != tier.up_to.to_integral_value():
        raise PricingError(f"tiers/{position}/up_to", "must be a whole number in Stripe")
    parameters: dict[str, Any] = {"up_to": "inf" if tier.up_to is None else int(tier.up_to)}
    for name in ("unit_amount", "flat_amount"):
        if getattr(tier, name) is not None:
            parameters[f"{name}_decimal"] = plain(getattr(tier, name))
    return parameters
