"""The contract's `priceConfig`: a price in major units, as people write it."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pricing import money
from pricing.definition import (
    INTERVALS,
    TAX_BEHAVIORS,
    USAGE_TYPES,
    ZERO_USAGE,
    Model,
    Price,
    Recurring,
)
from pricing.errors import PricingError, quoted
from pricing.flat import Flat
from pricing.graduated import Graduated
from pricing.money import Currency
from pricing.numbers import MAX_AMOUNT, MAX_DECIMALS, ZERO, decimals_of, plain
from pricing.package import ROUNDINGS, Package
from pricing.per_unit import PerUnit
from pricing.reading import Members, camel
from pricing.tiers import Tier
from pricing.volume import Volume

MODELS = ("graduated", "tiered", "volume", "package", "per_unit", "perUnit", "flat")


class _Amounts:
    """Amounts in the unit that the config says, as minor units."""

    def __init__(self, members: Members, currency: Currency) -> None:
        self._minor = members.choice("amount_unit", ("major", "minor")) == "minor"
        self._currency = currency

    def read(self, members: Members, name: str) -> Decimal | None:
        if self._minor:
            return members.number(name, below=MAX_AMOUNT)
        given = members.number(name, below=money.major(MAX_AMOUNT, self._currency))
        return None if given is None else money.minor(given, self._currency)


def from_config(
    given: Mapping[str, Any], *, path: str = "", currency: Currency | None = None
) -> Price:
    """Read a `priceConfig`, camelCase or snake_case.

    path: where it stands, for errors.  currency: taken where the config names none.
    Raises: PricingError naming the field.
    """
    members = Members(given, path)
    if currency is None or members.has("currency"):
        currency = money.currency(members.needed("currency"), members.at("currency"))
    members.take("currency")
    amounts = _Amounts(members, currency)
    try:
        price = Price(
            currency=currency,
            model=_model(members, amounts),
            minimum_charge=amounts.read(members, "minimum_charge"),
            maximum_charge=amounts.read(members, "maximum_charge"),
            free_units=members.number("free_units") or ZERO,
            zero_usage=members.choice("zero_usage", ZERO_USAGE) or ZERO_USAGE[0],
            recurring=_recurring(members),
            product=members.text("product"),
            nickname=members.text("nickname", most=5000),
            tax_behavior=members.choice("tax_behavior", TAX_BEHAVIORS),
            others=_others(members),
        )
    except _OptionError as error:
        raise PricingError(error.field, error.reason) from None
    except PricingError as error:
        raise _as_spelt(error, members) from None
    members.finish()
    return price


def _others(members: Members) -> tuple[Price, ...]:
    found = []
    for position, other in enumerate(members.items("currency_options", most=200)):
        at = f"{members.at('currency_options')}/{position}"
        # Said before one is read: nesting has no end.
        if isinstance(other, Mapping) and not {"currencyOptions", "currency_options"}.isdisjoint(
            other
        ):
            raise _OptionError(at, "cannot have currency options of its own")
        try:
            found.append(from_config(other, path=at))
        except PricingError as error:
            raise _OptionError(error.field, error.reason) from None
    return tuple(found)


class _OptionError(PricingError):
    """Of a currency option: its field is a full path already."""


_SPELT = {"unit_amount": "unit_price", "flat_amount": "flat_price"}


def _as_spelt(error: PricingError, members: Members) -> PricingError:
    """The field of a refusal in the config's own words."""
    if members.path and error.field.startswith(members.path):
        return error
    head, *rest = (_SPELT.get(part, part) for part in error.field.split("/"))
    return PricingError("/".join([members.at(head), *map(camel, rest)]), error.reason)


def _model(members: Members, amounts: _Amounts) -> Model:
    kind = members.needed("model")
    if kind not in MODELS:
        raise PricingError(
            "model", f"is not a pricing model: {quoted(kind)}; models are {', '.join(MODELS)}"
        )
    if kind in ("graduated", "tiered", "volume"):
        table = tuple(_tiers(members, amounts))
        return Volume(table) if kind == "volume" else Graduated(table)
    if kind == "package":
        size = members.whole("package_size", least=1)
        if size is None:
            raise PricingError("package_size", "is required")
        return Package(
            _needed(members, amounts, "unit_price"),
            size,
            members.choice("round", ROUNDINGS) or "up",
        )
    if kind == "flat" and not members.has("unit_price"):
        fee = amounts.read(members, "flat_price")
        if fee is None:
            raise PricingError(
                "flat_price", "is required: a fixed fee, or unitPrice for a flat rate per unit"
            )
        return Flat(fee)
    return PerUnit(_needed(members, amounts, "unit_price"))


def _needed(members: Members, amounts: _Amounts, name: str) -> Decimal:
    amount = amounts.read(members, name)
    if amount is None:
        raise PricingError(name, "is required")
    return amount


def _tiers(members: Members, amounts: _Amounts) -> list[Tier]:
    table = []
    for position, given in enumerate(members.items("tiers", most=1000)):
        tier = Members(given, f"{members.at('tiers')}/{position}")
        up_to = None if tier.take("up_to") in (None, "inf") else tier.number("up_to")
        table.append(
            Tier(up_to, amounts.read(tier, "unit_price"), amounts.read(tier, "flat_price"))
        )
        tier.finish()
    return table


def _recurring(members: Members) -> Recurring | None:
    given = members.take("recurring")
    if given is None:
        return None
    inner = Members(given, members.at("recurring"))
    recurring = Recurring(
        interval=inner.choice("interval", INTERVALS) or "month",
        interval_count=inner.whole("interval_count", least=1, below=1096) or 1,
        usage_type=inner.choice("usage_type", USAGE_TYPES) or "metered",
        meter=inner.text("meter"),
    )
    inner.finish()
    return recurring


def to_config(price: Price) -> dict[str, Any]:
    """The canonical `priceConfig`: camelCase, decimal strings; `from_config` reads it back.

    Amounts are in major units, but in minor ones where major units would need more than twelve
    decimals (Stripe's cents have up to twelve themselves).
    """
    model = price.model
    major = _fits_major(price)
    unit = {} if major else {"amountUnit": "minor"}

    def shown(amount: Decimal) -> str:
        return plain(money.major(amount, price.currency) if major else amount)

    config: dict[str, Any] = {"model": model.kind, "currency": price.currency.code, **unit}
    match model:
        case PerUnit():
            config["unitPrice"] = shown(model.unit_amount)
        case Flat():
            config["flatPrice"] = shown(model.amount)
        case Package():
            config |= {"unitPrice": shown(model.unit_amount), "packageSize": model.size}
            config["round"] = model.round
        case Graduated() | Volume():
            config["tiers"] = [_tier_config(tier, shown) for tier in model.tiers]
    for name in ("minimum_charge", "maximum_charge"):
        if getattr(price, name) is not None:
            config[camel(name)] = shown(getattr(price, name))
    if price.free_units:
        config["freeUnits"] = plain(price.free_units)
    if price.zero_usage != ZERO_USAGE[0]:
        config["zeroUsage"] = price.zero_usage
    return config | _terms(price)


def _terms(price: Price) -> dict[str, Any]:
    terms: dict[str, Any] = {}
    if price.recurring is not None:
        terms["recurring"] = {
            "interval": price.recurring.interval,
            "intervalCount": price.recurring.interval_count,
            "usageType": price.recurring.usage_type,
            "meter": price.recurring.meter,
        }
    for name in ("product", "nickname", "tax_behavior"):
        if getattr(price, name) is not None:
            terms[camel(name)] = getattr(price, name)
    if price.others:
        terms["currencyOptions"] = [to_config(other) for other in price.others]
    return terms


def _tier_config(tier: Tier, shown: Any) -> dict[str, Any]:
    config: dict[str, Any] = {"upTo": None if tier.up_to is None else plain(tier.up_to)}
    if tier.unit_amount is not None:
        config["unitPrice"] = shown(tier.unit_amount)
    if tier.flat_amount is not None:
        config["flatPrice"] = shown(tier.flat_amount)
    return config


def _fits_major(price: Price) -> bool:
    amounts = [price.minimum_charge, price.maximum_charge]
    match price.model:
        case PerUnit() | Package():
            amounts.append(price.model.unit_amount)
        case Flat():
            amounts.append(price.model.amount)
        case Graduated() | Volume():
            for tier in price.model.tiers:
                amounts += [tier.unit_amount, tier.flat_amount]
    return all(
        amount is None or decimals_of(money.major(amount, price.currency)) <= MAX_DECIMALS
        for amount in amounts
    )
