"""Every error of a pricing input, where the simulator stops at the first."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pricing.errors import PricingError
from pricing.reading import Members, snake
from pricing.simulator import InvoiceSimulator

# What the other members are read by.
_CONTEXT = ("currency", "period_start", "period_end")
# What goes wrong only because a member of the context did, and is not said twice.
_CONSEQUENCES = ("currency", "activeFrom", "active_from", "periodStart", "periodEnd", "usageItems")


def errors(given: Any, path: str = "") -> list[PricingError]:
    """What is wrong with a pricing input: one refusal for each usage item, discount, credit and
    term that is refused; empty if it can be simulated.

    path: where the input stands, for the fields.
    """
    found = [error.within(path) for error in _errors(given)]
    unique = {(error.field, error.reason): error for error in found}
    return list(unique.values())


def _errors(given: Any) -> list[PricingError]:
    try:
        Members(given)
    except PricingError as error:
        return [error]
    context, found = _context(given)
    rest = {name: value for name, value in given.items() if snake(name) not in _CONTEXT}
    items = _items(rest)
    known = _known_currency(context, items)
    is_certain = not found and known is not None
    for variant, index in _apart(rest, context, known or "usd"):
        refusal = _refusal(variant)
        if refusal is None or (not is_certain and refusal.field.split("/")[-1] in _CONSEQUENCES):
            continue
        found.append(refusal if index is None else _renumbered(refusal, index))
    # What no member is to blame for alone, such as a second currency.
    whole = None if found else _refusal(given)
    return found if whole is None else [whole]


def _context(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[PricingError]]:
    """The members of the context that are good, and what is wrong with the others."""
    good: dict[str, Any] = {}
    found = []
    for name, value in given.items():
        if snake(name) in _CONTEXT:
            error = _refusal({"currency": "usd", **good, name: value})
            if error is None:
                good[name] = value
            else:
                found.append(error)
    return good, found


def _apart(
    rest: Mapping[str, Any], context: dict[str, Any], currency: str
) -> Iterator[tuple[dict[str, Any], int | None]]:
    """The input in pieces that can be simulated alone; a list's member with its index."""
    for name, value in rest.items():
        # An item needs a currency of its own, unless the input names one.
        others = context if snake(name) == "usage_items" else {**context, "currency": currency}
        if isinstance(value, list | tuple):
            yield from (({**others, name: [each]}, index) for index, each in enumerate(value))
        else:
            yield {**others, name: value}, None


def _items(rest: Mapping[str, Any]) -> Sequence[Any]:
    for name, value in rest.items():
        if snake(name) == "usage_items" and isinstance(value, list | tuple):
            return value
    return ()


def _known_currency(context: Mapping[str, Any], items: Sequence[Any]) -> str | None:
    """The invoice's: the first item's, else the input's own; None where neither can be read."""
    own = context.get("currency")
    for item in items:
        code = _currency_of({**context, "usageItems": [item]})
        if code is not None:
            return code
    return own


def _currency_of(given: Mapping[str, Any]) -> str | None:
    try:
        return InvoiceSimulator().invoice(given).currency.code
    except PricingError:
        return None


def _refusal(variant: Mapping[str, Any]) -> PricingError | None:
    try:
        InvoiceSimulator().invoice(variant)
    except PricingError as error:
        return error
    return None


def _renumbered(error: PricingError, index: int) -> PricingError:
    """The refusal of a list's only member, seen in the list that it came from."""
    head, slash, tail = error.field.partition("/0")
    return PricingError(f"{head}/{index}{tail}" if slash else error.field, error.reason)
