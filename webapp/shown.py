"""Numbers as people read them. American English until pages choose a locale."""

from datetime import UTC, datetime
from decimal import Context, Decimal, localcontext

from babel.numbers import format_currency, format_decimal, get_currency_symbol

from pricing import money
from pricing.money import Currency
from pricing.numbers import plain

LOCALE = "en_US"
# Babel rounds within the context it finds: one that has room for every figure of ours.
_WIDE = Context(prec=120)
MINUS, HYPHEN = "\u2212", "-"


def amount(minor: int | Decimal, of: Currency) -> str:
    """A total: with the currency's decimals, rounded to what an invoice can hold: `$220.00`."""
    return _money(money.major(money.rounded(Decimal(minor), of), of), of, of.digits)


def change(minor: int, of: Currency) -> str:
    """How an amount changes, with its sign: `+$1.00`, `−$1.00`, `$0.00`."""
    return f"{'+' if minor > 0 else ''}{amount(minor, of)}"


def rate(minor: Decimal, of: Currency) -> str:
    """A price or an unrounded amount, with every digit it has: `$0.0008`, `$1.116`."""
    digits = plain(money.major(minor, of))
    return _money(Decimal(digits), of, max(of.digits, len(digits.partition(".")[2])))


def _money(major: Decimal, of: Currency, decimals: int) -> str:
    code = of.code.upper()
    # A symbol stands close (`$1`), a code apart (`ISK 1`), as is the custom.
    gap = "\u00a0" if get_currency_symbol(code, LOCALE).isalpha() else ""
    pattern = f"¤{gap}#,##0" + ("." + "0" * decimals if decimals else "")
    with localcontext(_WIDE):
        text = format_currency(
            major,
            code,
            locale=LOCALE,
            format=pattern,
            currency_digits=False,
            decimal_quantization=False,
        )
    return text.replace(HYPHEN, MINUS)


def quantity(value: Decimal) -> str:
    """`10,000`, `0.5`: grouped, with every digit it has."""
    with localcontext(_WIDE):
        shown = format_decimal(Decimal(plain(value)), locale=LOCALE, decimal_quantization=False)
    return shown.replace(HYPHEN, MINUS)


# The largest unit that an age has at least one of; days beyond two days.
_UNITS = ((172_800, 86_400, "days"), (3_600, 3_600, "h"), (60, 60, "min"), (0, 1, "s"))


def relative(at: datetime, now: datetime) -> str:
    """`12 s ago`, `in 4 min`, `30 h ago`, `3 days ago`."""
    seconds = int((now - at).total_seconds())
    size = abs(seconds)
    _, unit, name = next(each for each in _UNITS if size >= each[0])
    return f"in {size // unit} {name}" if seconds < 0 else f"{size // unit} {name} ago"


def instant(at: datetime) -> str:
    """`17 Nov 2026, 02:14:05 UTC`."""
    return f"{at.astimezone(UTC):%-d %b %Y, %H:%M:%S} UTC"
