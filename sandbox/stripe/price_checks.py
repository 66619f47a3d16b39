"""What Stripe refuses of a price, and what it makes of its amounts."""

from decimal import Decimal

from sandbox.stripe import decimals
from sandbox.stripe.core import Json, StripeError

_AMOUNT = {"unit_amount": int, "unit_amount_decimal": str}
_TIER = {"up_to!": str, "flat_amount": int, "flat_amount_decimal": str, **_AMOUNT}
RECURRING = {
    "interval!": ("month", "year", "week", "day"),
    "interval_count": int,
    "meter": str,
    "usage_type": ("metered", "licensed"),
}
SHAPE = {
    **_AMOUNT,
    "billing_scheme": ("per_unit", "tiered"),
    "recurring": RECURRING,
    "tiers": [_TIER],
    "tiers_mode": ("graduated", "volume"),
    "transform_quantity": {"divide_by!": int, "round!": ("up", "down")},
}
_LONGEST = {"day": 1095, "week": 156, "month": 36, "year": 3}  # three years


def amounts(given: Json) -> Json:
    """The members of a price that say what it costs, tiers under `_tiers`.

    Raises: StripeError (400).
    """
    tiered = given.get("billing_scheme") == "tiered"
    if tiered:
        return _tiered(given)
    for name in ("tiers", "tiers_mode"):
        if given.get(name) is not None:
            message = f"`{name}` can only be set when `billing_scheme` is set to `tiered`."
            raise StripeError(400, message, param=name)
    read = _amount(given, "unit_amount", "")
    if read is None:
        message = "You must specify either `unit_amount` or `unit_amount_decimal`."
        raise StripeError(400, message, code="parameter_missing", param="unit_amount")
    transform = given.get("transform_quantity")
    if transform is not None and transform["divide_by"] < 1:
        raise _low("transform_quantity[divide_by]", 1)
    return {
        "billing_scheme": "per_unit",
        "tiers_mode": None,
        "transform_quantity": transform,
        **_written(read, "unit_amount"),
    }


def recurring(given: Json | None) -> Json | None:
    """The member `recurring`; the meter is looked up elsewhere."""
    if given is None:
        return None
    interval, count = given["interval"], given.get("interval_count")
    count = 1 if count is None else count
    if not 1 <= count <= _LONGEST[interval]:
        message = f"Invalid interval_count: {count}; an interval is at most three years long."
        raise StripeError(400, message, param="recurring[interval_count]")
    usage_type, meter = given.get("usage_type") or "licensed", given.get("meter") or None
    if usage_type == "metered" and meter is None:
        message = "Metered prices must be backed by a meter: set `recurring[meter]`."
        raise StripeError(400, message, code="parameter_missing", param="recurring[meter]")
    if usage_type == "licensed" and meter is not None:
        message = "`recurring[meter]` can only be set with `recurring[usage_type]` of `metered`."
        raise StripeError(400, message, param="recurring[meter]")
    return {
        "interval": interval,
        "interval_count": count,
        "meter": meter,
        "usage_type": usage_type,
    }


def _tiered(given: Json) -> Json:
    for name in ("unit_amount", "unit_amount_decimal"):
        if given.get(name) is not None:
            message = f"`{name}` cannot be set when `billing_scheme` is set to `tiered`."
            raise StripeError(400, message, param=name)
    if given.get("transform_quantity") is not None:
        message = "`transform_quantity` cannot be combined with `tiers`."
        raise StripeError(400, message, param="transform_quantity")
    for name in ("tiers", "tiers_mode"):
        if not given.get(name):
            message = f"`{name}` must be set when `billing_scheme` is set to `tiered`."
            raise StripeError(400, message, code="parameter_missing", param=name)
    return {
        "billing_scheme": "tiered",
        "tiers_mode": given["tiers_mode"],
        "transform_quantity": None,
        "unit_amount": None,
        "unit_amount_decimal": None,
        "_tiers": _tiers(given["tiers"]),
    }


def _tiers(given: list[Json]) -> list[Json]:
    """Ascending, the last of them up to `inf`."""
    read, below = [], 0
    for at, tier in enumerate(given):
        name, last = f"tiers[{at}]", at == len(given) - 1
        up_to = _up_to(tier["up_to"], f"{name}[up_to]", below, last=last)
        unit, flat = (_amount(tier, each, name) for each in ("unit_amount", "flat_amount"))
        if unit is None and flat is None:
            message = "Each tier must have a `unit_amount` or a `flat_amount`."
            raise StripeError(400, message, code="parameter_missing", param=name)
        amounts = _written(flat, "flat_amount") | _written(unit, "unit_amount")
        read.append({**amounts, "up_to": up_to})
        below = up_to or below
    return read


def _up_to(text: str, param: str, below: int, *, last: bool) -> int | None:
    if text == "inf":
        if last:
            return None
        raise StripeError(400, "Only the last tier may be up to `inf`.", param=param)
    if last:
        raise StripeError(400, "The last tier must be up to `inf`.", param=param)
    if not (text.isascii() and text.isdigit()):
        raise StripeError(
            400, f"Invalid integer: {text}", code="parameter_invalid_integer", param=param
        )
    if int(text) <= below:
        raise StripeError(400, "Tiers must be in ascending order of `up_to`.", param=param)
    return int(text)


def _amount(given: Json, name: str, within: str) -> Decimal | None:
    """Of `name` or `name_decimal`, never both; neither is None."""
    whole, text = given.get(name), given.get(f"{name}_decimal") or None
    param = f"{within}[{name}]" if within else name
    if whole is not None and text is not None:
        message = f"You may only specify one of these parameters: {name}, {name}_decimal."
        raise StripeError(400, message, param=param)
    decimal_name = f"{within}[{name}_decimal]" if within else f"{name}_decimal"
    if text is not None:
        value = decimals.read(text, decimal_name)
    elif whole is not None:
        value = Decimal(whole)
    else:
        return None
    if value < 0:
        raise _low(param, 0)
    return value


def _low(param: str, least: int) -> StripeError:
    message = f"This value must be greater than or equal to {least}."
    return StripeError(400, message, param=param)


def _written(value: Decimal | None, name: str) -> Json:
    if value is None:
        return {name: None, f"{name}_decimal": None}
    return {name: decimals.whole(value), f"{name}_decimal": decimals.written(value)}
