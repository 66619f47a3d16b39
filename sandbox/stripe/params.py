"""Parameters against their shape: unknown, missing and misshapen ones refused as Stripe does.

A shape is a mapping of names to kinds; a name that ends in `!` is required, the name `*` stands
for any. Kinds: `str`, `int`, `bool`, a tuple of allowed words, a list of one kind, another shape,
`(int, shape)`-like alternatives as `Either`, or `Text(longest)`. The value "" unsets and is let
through for every kind as None, but for texts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.stripe.core import Json, StripeError


@dataclass(frozen=True)
class Text:
    longest: int


@dataclass(frozen=True)
class Either:
    """The first kind for a plain value, the second for a nested one."""

    plain: Any
    nested: Any


Shape = Mapping[str, Any]

METADATA = {"*": str}
EXPAND = [str]
PAGE: Shape = {"limit": int, "starting_after": str, "ending_before": str, "expand": EXPAND}


def unknown(name: str) -> StripeError:
    return StripeError(
        400, f"Received unknown parameter: {name}", code="parameter_unknown", param=name
    )


def required(name: str) -> StripeError:
    return StripeError(
        400, f"Missing required param: {name}.", code="parameter_missing", param=name
    )


def check(given: Json, shape: Shape, within: str = "") -> Json:
    """The parameters with whole numbers and booleans as such.

    Raises: StripeError (400) that names the first parameter at fault, `recurring[interval]`.
    """
    names = {name.rstrip("!"): kind for name, kind in shape.items()}
    read: Json = {}
    for name, value in given.items():
        kind = names.get(name, names.get("*"))
        if kind is None:
            raise unknown(_full(name, within))
        read[name] = _read(value, kind, _full(name, within))
    for name in shape:
        if name.endswith("!") and read.get(name[:-1]) in (None, ""):
            raise required(_full(name[:-1], within))
    return read


def _full(name: str, within: str) -> str:
    return f"{within}[{name}]" if within else name


def _read(value: Any, kind: Any, name: str) -> Any:
    if isinstance(kind, Either):
        kind = kind.nested if isinstance(value, (dict, list)) else kind.plain
    if kind is str:
        return _text(value, name, 5000)
    if isinstance(kind, Text):
        return _text(value, name, kind.longest)
    if value == "" or value is None:
        return None
    if isinstance(kind, Mapping):
        if not isinstance(value, dict):
            raise StripeError(400, "Invalid object", param=name)
        return check(value, kind, name)
    if isinstance(kind, list):
        if not isinstance(value, list):
            raise StripeError(400, "Invalid array", param=name)
        return [_read(each, kind[0], f"{name}[{at}]") for at, each in enumerate(value)]
    if kind is int:
        return _whole(value, name)
    if kind is bool:
        return _truth(value, name)
    if value not in kind:
        words = ", ".join(kind[:-1]) + (f", or {kind[-1]}" if len(kind) > 1 else kind[-1])
        raise StripeError(400, f"Invalid {name}: must be one of {words}", param=name)
    return value


def _text(value: Any, name: str, longest: int) -> str:
    if not isinstance(value, str):
        raise StripeError(400, "Invalid string: " + str(value)[:100], param=name)
    if len(value) > longest:
        raise StripeError(
            400,
            f"Invalid string: {value[:20]}...; must be at most {longest} characters",
            param=name,
        )
    return value


def _whole(value: Any, name: str) -> int:
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.lstrip("-").isdigit()):
        raise StripeError(
            400, f"Invalid integer: {value}", code="parameter_invalid_integer", param=name
        )
    return int(text)


def _truth(value: Any, name: str) -> bool:
    if value in (True, "true"):
        return True
    if value in (False, "false"):
        return False
    raise StripeError(400, f"Invalid boolean: {value}", param=name)
