"""Currencies as Stripe counts them, and the one place where an amount is rounded.

Amounts are in minor units (cents) unless a name says `major`. Source: docs.stripe.com/currencies
(zero-decimal, three-decimal and special cases).
"""

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from functools import cache
from typing import Any

from pricing.errors import PricingError
from pricing.numbers import EXACT, plain

MODES = {"half_up": ROUND_HALF_UP, "up": ROUND_CEILING, "down": ROUND_FLOOR}

# What Stripe presents amounts in. Of those below:
_ALL = """
    aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd bwp byn bzd
    cad cdf chf clp cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gnf gtq
    gyd hkd hnl hrk htg huf idr ils inr isk jmd jod jpy kes kgs khr kmf krw kwd kyd kzt lak lbp lkr
    lrd lsl mad mdl mga mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd omr pab pen
    pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr sek sgd shp sle sll sos srd std stn svc szl
    thb tjs tnd top try ttd twd tzs uah ugx usd uyu uzs vnd vuv wst xaf xcd xof xpf yer zar zmw
"""
_ZERO_DECIMAL = "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf"
# Thousandths, but Stripe wants the last digit to be 0: 5.124 KWD is charged as 5120 or 5130.
_THREE_DECIMAL = "bhd jod kwd omr tnd"
# Written with two decimals for old times' sake, which must be 00.
_WHOLE_UNITS = "isk ugx"
# Charged with two decimals, paid out in whole units.
_WHOLE_PAYOUTS = "huf twd"


@dataclass(frozen=True, slots=True)
class Currency:
    """code: lower case, as in Stripe.  digits: minor units are 10^-digits of the major one.

    step: an invoice's amounts are multiples of so many minor units.  payout_step: so are payouts.
    """

    code: str
    digits: int
    step: int = 1
    payout_step: int = 1


def currency(code: Any, field: str = "currency") -> Currency:
    """The currency of an ISO code in any case; PricingError if Stripe has none of that name."""
    if not isinstance(code, str):
        raise PricingError(field, "must be a currency's three-letter code, such as usd")
    found = _found(code.strip().lower())
    if found is None:
        raise PricingError(field, f"is not a currency that Stripe charges: {code[:20]!r}")
    return found


@cache
def _table() -> dict[str, Currency]:
    table = {code: Currency(code, 2) for code in _ALL.split()}
    table |= {code: Currency(code, 2, payout_step=100) for code in _WHOLE_PAYOUTS.split()}
    table |= {code: Currency(code, 2, 100, 100) for code in _WHOLE_UNITS.split()}
    table |= {code: Currency(code, 0) for code in _ZERO_DECIMAL.split()}
    table |= {code: Currency(code, 3, 10, 10) for code in _THREE_DECIMAL.split()}
    return table


def _found(code: str) -> Currency | None:
    return _table().get(code)


def currencies() -> list[Currency]:
    """Every currency, by code."""
    return [_table()[code] for code in sorted(_table())]


def quantized(value: Decimal, places: int = 0, mode: str = "half_up") -> Decimal:
    """Round to so many decimals. half_up: ties away from zero; up, down: to the next above, below.

    Every rounding of the product ends here.
    """
    if places == 0:
        return value.to_integral_value(rounding=MODES[mode])
    shifted = EXACT.scaleb(value, places).to_integral_value(rounding=MODES[mode])
    return EXACT.scaleb(shifted, -places)


def rounded(value: Decimal, of: Currency) -> int:
    """An amount as an invoice can hold it: whole minor units, half up, to the currency's step."""
    if of.step == 1:
        return int(value.to_integral_value(rounding=ROUND_HALF_UP))
    return int(quantized(value, -1 if of.step == 10 else -2))


def minor(major_amount: Decimal, of: Currency) -> Decimal:
    """Dollars as cents, exactly."""
    return EXACT.scaleb(major_amount, of.digits)


def major(minor_amount: Decimal | int, of: Currency) -> Decimal:
    """Cents as dollars, exactly."""
    return EXACT.scaleb(Decimal(minor_amount), -of.digits)


def show(minor_amount: Decimal | int, of: Currency) -> str:
    """In major units with the currency's decimals, and more only where the amount has more."""
    digits = plain(major(minor_amount, of))
    whole, _, decimals = digits.partition(".")
    decimals = decimals.ljust(of.digits, "0")
    return f"{whole}.{decimals}" if decimals else whole
