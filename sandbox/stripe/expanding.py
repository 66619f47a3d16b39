"""`expand`: ids that become their objects, and members that show only when asked for.

A path names members from the object down, `data` stepping into each of a list's objects; at most
four levels, as Stripe has it. Nothing stored is touched: what is on the way is copied.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sandbox.stripe.core import Call, Json, Partition, StripeError

DEEPEST = 4

Shown = Callable[[Partition, Json], Json]

# The kind of object that an id under the name leads to.
_KINDS = {
    "customer": "customer",
    "product": "product",
    "price": "price",
    "subscription": "subscription",
    "latest_invoice": "invoice",
    "invoice": "invoice",
    "meter": "billing.meter",
    "test_clock": "test_helpers.test_clock",
    "subscription_item": "subscription_item",
    "credit_grant": "billing.credit_grant",
    "invoice_item": "invoiceitem",
}
# How an object of a kind is shown, where it is not stored as it is shown.
_SHOWN: dict[str, Shown] = {}
_LATER = ("tiers", "currency_options")


def shows(kind: str) -> Callable[[Shown], Shown]:
    """Have objects of the kind shown by the function wherever one is expanded to."""

    def bind(shown: Shown) -> Shown:
        _SHOWN[kind] = shown
        return shown

    return bind


def shown(call: Call, obj: Json, paths: Sequence[str] | None) -> Json:
    """The object with what was asked for.

    Raises: StripeError (400) for a path that leads nowhere, or too deep.
    """
    for path in paths or ():
        parts = path.split(".")
        if len(parts) > DEEPEST:
            message = f"You cannot expand more than {DEEPEST} levels of a property: {path}"
            raise StripeError(400, message, param="expand")
        obj = _expanded(call.partition, obj, parts, path)
    return obj


def _expanded(partition: Partition, obj: Json, parts: list[str], path: str) -> Json:
    name, rest = parts[0], parts[1:]
    if name in _LATER and obj.get("object") == "price":
        # A price that has no tiers is shown without; asking for them is no mistake.
        return obj | {name: obj[f"_{name}"]} if f"_{name}" in obj else obj
    if name not in obj:
        message = f"This property cannot be expanded ({path})."
        raise StripeError(400, message, param="expand")
    return obj | {name: _value(partition, obj[name], name, rest, path)}


def _value(partition: Partition, value: Any, name: str, rest: list[str], path: str) -> Any:
    if isinstance(value, list):
        return [_value(partition, each, name, rest, path) for each in value]
    if isinstance(value, str) and name in _KINDS:
        kind = _KINDS[name]
        found = partition.of(kind).get(value)
        value = _SHOWN[kind](partition, found) if found and kind in _SHOWN else found or value
    if isinstance(value, dict):
        return _expanded(partition, value, rest, path) if rest else value
    if value is None or (isinstance(value, str) and name in _KINDS):
        return value
    raise StripeError(400, f"This property cannot be expanded ({path}).", param="expand")
