"""The simulator's state: what is typed into its fields, as a query string says it.

Everything is in the address, so that a link is the whole simulation and no script is needed:
`currency`, `quantity`, `range`, and for each price A to D, by its letter,
`a-name`, `a-model`, `a-unit`, `a-size`, `a-round`, `a-fee`, `a-min`, `a-max`, `a-free` and for
each tier `a-0-to`, `a-0-unit`, `a-0-flat`. What is typed is kept as it is, also where it is wrong.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from pricing.definition import Price
from pricing.numbers import plain
from pricing.price import to_config

LETTERS = "abcd"
MODELS = {
    "graduated": ("Graduated", "Each tier's units at that tier's price."),
    "volume": ("Volume", "All units at the price of the tier reached."),
    "per_unit": ("Per unit", "Every unit the same."),
    "package": ("Package", "Units are sold by the package."),
    "flat": ("Fixed fee", "The same, whatever was used."),
}
MAX_TIERS = 20
_TEXTS = ("name", "model", "unit", "size", "round", "fee", "min", "max", "free")
# 10,000 is grouped; 0,008 is a European's decimal, and must not become 8.
_GROUPED = re.compile(r"[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?")


@dataclass(frozen=True)
class TierForm:
    """One row of a tier table, as typed. The last row's `to` is not asked for."""

    to: str = ""
    unit: str = ""
    flat: str = ""


@dataclass(frozen=True)
class PriceForm:
    """One price, as typed."""

    letter: str
    name: str = ""
    model: str = "graduated"
    unit: str = ""
    size: str = ""
    round: str = "up"
    fee: str = ""
    min: str = ""
    max: str = ""
    free: str = ""
    tiers: tuple[TierForm, ...] = (TierForm(),)

    @property
    def title(self) -> str:
        return self.name.strip() or f"Price {self.letter.upper()}"

    @property
    def is_tiered(self) -> bool:
        return self.model in ("graduated", "volume")


@dataclass(frozen=True)
class Form:
    """The whole page's state."""

    currency: str = "usd"
    quantity: str = ""
    range: str = ""
    prices: tuple[PriceForm, ...] = field(default_factory=tuple)

    def price(self, letter: str) -> PriceForm | None:
        return next((price for price in self.prices if price.letter == letter), None)

    def with_price(self, changed: PriceForm) -> "Form":
        """The same with one price put in its place by letter."""
        others = [price for price in self.prices if price.letter != changed.letter]
        return replace(
            self, prices=tuple(sorted([*others, changed], key=lambda price: price.letter))
        )

    def free_letter(self) -> str | None:
        return next((letter for letter in LETTERS if self.price(letter) is None), None)

    def query(self) -> str:
        """The state as a query string; what is empty is left out."""
        pairs = [("currency", self.currency), ("quantity", self.quantity), ("range", self.range)]
        for price in self.prices:
            pairs += [(f"{price.letter}-{name}", getattr(price, name)) for name in _TEXTS]
            if not price.is_tiered:
                continue
            for i, tier in enumerate(price.tiers):
                at = f"{price.letter}-{i}"
                pairs += [(f"{at}-to", tier.to), (f"{at}-unit", tier.unit)]
                pairs += [(f"{at}-flat", tier.flat)]
                # A row that is still empty is a row all the same.
                if not (tier.to or tier.unit or tier.flat):
                    pairs.append((f"{at}-row", "1"))
        return urlencode([(name, value) for name, value in pairs if value])


EXAMPLE = Form(
    currency="usd",
    quantity="25000",
    prices=(
        PriceForm(
            "a",
            tiers=(
                TierForm("10000", "0.01"),
                TierForm("50000", "0.008"),
                TierForm("", "0.005"),
            ),
        ),
    ),
)


def read(given: Mapping[str, str]) -> Form:
    """The state that a query string holds; the example where it holds no price."""
    prices = tuple(
        _price(given, letter) for letter in LETTERS if given.get(f"{letter}-model") is not None
    )
    currency = _typed(given, "currency")[:3].strip().lower() or EXAMPLE.currency
    if not prices:
        quantity = _typed(given, "quantity") or EXAMPLE.quantity
        return replace(EXAMPLE, currency=currency, quantity=quantity)
    return Form(
        currency=currency,
        quantity=_typed(given, "quantity"),
        range=_typed(given, "range"),
        prices=prices,
    )


def _typed(given: Mapping[str, str], name: str) -> str:
    # Four prices of twenty tiers must fit into an address.
    return given.get(name, "")[: 60 if name.endswith("-name") else 40].strip()


def _price(given: Mapping[str, str], letter: str) -> PriceForm:
    texts = {name: _typed(given, f"{letter}-{name}") for name in _TEXTS}
    if texts["model"] not in MODELS:
        texts["model"] = "graduated"
    row = re.compile(rf"{letter}-([0-9]{{1,3}})-(?:to|unit|flat|row)")
    rows = sorted({int(found[1]) for found in map(row.fullmatch, given) if found})
    tiers = tuple(
        TierForm(*(_typed(given, f"{letter}-{i}-{name}") for name in ("to", "unit", "flat")))
        for i in rows[:MAX_TIERS]
    )
    return PriceForm(
        letter, **texts | {"round": texts["round"] or "up"}, tiers=tiers or (TierForm(),)
    )


def change(form: Form, action: str) -> Form:
    """Carry out what a button says: `add-price`, `drop-a`, `copy-a`, `add-tier-a`, `drop-tier-a-1`.

    What makes no sense changes nothing.
    """
    name, _, rest = action.rpartition("-")
    if action == "add-price":
        letter = form.free_letter()
        return form.with_price(PriceForm(letter)) if letter else form
    if name == "drop" and len(form.prices) > 1:
        return replace(form, prices=tuple(p for p in form.prices if p.letter != rest))
    if name == "copy" and (price := form.price(rest)) and (letter := form.free_letter()):
        name = f"{price.name} (copy)"[:60] if price.name else ""
        return form.with_price(replace(price, letter=letter, name=name))
    if name == "add-tier" and (price := form.price(rest)) and len(price.tiers) < MAX_TIERS:
        # The last row is all the rest: a new one goes before it.
        tiers = (*price.tiers[:-1], TierForm(), price.tiers[-1])
        return form.with_price(replace(price, tiers=tiers))
    if found := re.fullmatch(r"drop-tier-([a-d])-([0-9]{1,2})", action):
        price = form.price(found[1])
        if price and len(price.tiers) > 1 and int(found[2]) < len(price.tiers) - 1:
            tiers = tuple(t for i, t in enumerate(price.tiers) if i != int(found[2]))
            return form.with_price(replace(price, tiers=tiers))
    return form


def number(typed: str) -> str:
    """A quantity that a person typed as digits: 10,000 and 10 000 are ten thousand."""
    digits = "".join(typed.split())
    return digits.replace(",", "") if _GROUPED.fullmatch(digits) else digits


def money(typed: str) -> str:
    """An amount as digits. Commas stay, to be refused: 1,250 is 1.25 to some, 1250 to others."""
    return "".join(typed.split())


def config(form: Form, price: PriceForm) -> dict[str, Any]:
    """The contract's `priceConfig` that the fields make; empty fields are left out."""
    made: dict[str, Any] = {"model": price.model, "currency": form.currency}
    if price.is_tiered:
        last = len(price.tiers) - 1
        made["tiers"] = [
            {"upTo": number(tier.to) if i < last else None}
            | _amounts(unitPrice=tier.unit, flatPrice=tier.flat)
            for i, tier in enumerate(price.tiers)
        ]
    elif price.model == "package":
        made |= _amounts(unitPrice=price.unit) | _quantities(packageSize=price.size)
        made["round"] = price.round
    elif price.model == "flat":
        made |= _amounts(flatPrice=price.fee)
    else:
        made |= _amounts(unitPrice=price.unit)
    bounds = _amounts(minimumCharge=price.min, maximumCharge=price.max)
    return made | bounds | _quantities(freeUnits=price.free)


def _quantities(**typed: str) -> dict[str, str]:
    return {name: number(text) for name, text in typed.items() if text}


def _amounts(**typed: str) -> dict[str, str]:
    return {name: money(text) for name, text in typed.items() if text}


def of_price(letter: str, price: Price, name: str) -> PriceForm:
    """The fields that make a price. Raises ValueError for what they cannot hold."""
    made = to_config(price)
    if "amountUnit" in made:
        raise ValueError(
            "its amounts have more than twelve decimals in major units: more than the fields hold"
        )
    if "zeroUsage" in made:
        raise ValueError("it chooses what nothing used costs, which the fields cannot say")
    if len(made.get("tiers", [])) > MAX_TIERS:
        raise ValueError(f"it has more than {MAX_TIERS} tiers: more than this page shows")
    tiers = tuple(
        TierForm(tier["upTo"] or "", tier.get("unitPrice", ""), tier.get("flatPrice", ""))
        for tier in made.get("tiers", [])
    )
    size = made.get("packageSize", "")
    return PriceForm(
        letter,
        name=name,
        model=made["model"],
        unit=made.get("unitPrice", ""),
        size=str(size),
        round=made.get("round", "up"),
        fee=made.get("flatPrice", ""),
        min=made.get("minimumCharge", ""),
        max=made.get("maximumCharge", ""),
        free=plain(price.free_units) if price.free_units else "",
        tiers=tiers or (TierForm(),),
    )
