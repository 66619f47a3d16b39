"""What quantities cost, by the one pricing function; whole minor units, as an invoice bills.

Decisions can leave a total below zero: a credit stands, and an event that it credited is voided
afterwards. Stripe bills such a total as a quantity of 0, and so does everything here, while the
quantity that is shown stays what it is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from pricing import curve
from pricing.money import Currency
from pricing.numbers import EXACT, ZERO
from pricing.price import Price
from pricing.projection import Band
from pricing.volume import Volume


@dataclass(frozen=True)
class Amounts:
    """What a line, or several of one currency, costs so far and at the period's end.

    low, high: the least and the most that any quantity within the band costs.
    """

    currency: Currency
    current: int
    projected: int
    low: int
    high: int


def billed(quantity: Decimal) -> Decimal:
    """What of a total is billed: a total below zero as nothing."""
    return max(quantity, ZERO)


def cost(price: Price, quantity: Decimal) -> int:
    """What a total costs; one below zero costs what nothing does."""
    return price.amount(billed(quantity))


def of_line(price: Price, quantity: Decimal, band: Band) -> Amounts:
    """What the quantity costs, and what the quantities of the band do."""
    band = Band(billed(band.low), billed(band.expected), billed(band.high))
    projected = price.amount(band.expected)
    possible = [projected, *(price.amount(each) for each in _turns(price, band))]
    return Amounts(price.currency, cost(price, quantity), projected, min(possible), max(possible))


def _turns(price: Price, band: Band) -> list[Decimal]:
    """The quantities within the band where the cost may be least or most: its ends, and of a
    volume price, which may fall, both sides of every bound in between."""
    at = [band.low, band.high]
    if isinstance(price.model, Volume):
        for bound in curve.boundaries(price):
            if band.low <= bound < band.high:
                at += [bound, min(EXACT.add(bound, curve.JUST), band.high)]
    return at


def total(lines: Sequence[Amounts]) -> Amounts | None:
    """Add up lines of one currency; None of no lines, and of several currencies."""
    if len({line.currency for line in lines}) != 1:
        return None
    return Amounts(
        lines[0].currency,
        sum(line.current for line in lines),
        sum(line.projected for line in lines),
        sum(line.low for line in lines),
        sum(line.high for line in lines),
    )


def by_currency(lines: Iterable[Amounts | None]) -> list[Amounts]:
    """The total of each currency, by its code; lines without a price have no part in them."""
    priced = [line for line in lines if line is not None]
    codes = sorted({line.currency.code for line in priced})
    sums = (total([line for line in priced if line.currency.code == code]) for code in codes)
    return [each for each in sums if each is not None]
