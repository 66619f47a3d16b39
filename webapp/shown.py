"""Numbers and dates as people read them, by locale.

Pages for the operator and for finance are in American English; the widget speaks its host's locale.
Dates are UTC: billing periods are.
"""

from copy import copy
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, localcontext
from functools import lru_cache

from babel import Locale
from babel.dates import format_datetime, format_interval, format_skeleton, format_time
from babel.numbers import NumberPattern, format_decimal, get_currency_symbol

from pricing import money
from pricing.money import Currency
from pricing.numbers import plain

LOCALE = "en_US"
# Babel rounds within the context it finds: one that has room for every figure of ours.
_WIDE = Context(prec=120)
MINUS, HYPHEN = "\u2212", "-"
_NO_BREAK, _LEFT_TO_RIGHT = "\u00a0", "\u200e"
_INSTANT, _LONG = timedelta(microseconds=1), timedelta(days=200)


def amount(minor: int | Decimal, of: Currency, locale: str = LOCALE) -> str:
    """A total: with the currency's decimals, rounded to what an invoice can hold: `$220.00`."""
    major = money.major(money.rounded(Decimal(minor), of), of)
    return _money(major, of, of.digits, locale)


def about(minor: int | Decimal, of: Currency, locale: str = LOCALE) -> str:
    """A guess, to the whole major unit: `$181`."""
    return _money(money.quantized(money.major(minor, of)), of, 0, locale)


def change(minor: int, of: Currency, locale: str = LOCALE) -> str:
    """How an amount changes, with its sign: `+$1.00`, `−$1.00`, `$0.00`."""
    return f"{'+' if minor > 0 else ''}{amount(minor, of, locale)}"


def rate(minor: Decimal, of: Currency, locale: str = LOCALE) -> str:
    """A price or an unrounded amount, with every digit it has: `$0.0008`, `$1.116`."""
    digits = plain(money.major(minor, of))
    return _money(Decimal(digits), of, max(of.digits, len(digits.partition(".")[2])), locale)


def _money(major: Decimal, of: Currency, decimals: int, locale: str) -> str:
    code = of.code.upper()
    with localcontext(_WIDE):
        text: str = _pattern(locale, code, decimals).apply(
            major, locale, currency=code, currency_digits=False
        )
    return text.replace(HYPHEN, MINUS)


@lru_cache(maxsize=512)
def _pattern(locale: str, code: str, decimals: int) -> NumberPattern:
    """The locale's own form of money: where the symbol stands, how digits are grouped."""
    pattern: NumberPattern = copy(Locale.parse(locale).currency_formats["standard"])
    pattern.frac_prec = (decimals, decimals)
    # A symbol may stand close (`$1`); a code stands apart (`ISK 1`), as is the custom.
    if get_currency_symbol(code, locale).isalpha():
        before, after = pattern.prefix, pattern.suffix
        pattern.prefix = (_before_digits(before[0]), _before_digits(before[1]))
        pattern.suffix = (_after_digits(after[0]), _after_digits(after[1]))
    if Locale.parse(locale).text_direction == "rtl":
        pattern.prefix = (_held(pattern.prefix[0]), _held(pattern.prefix[1]))
        pattern.suffix = (_held(pattern.suffix[0]), _held(pattern.suffix[1]))
    return pattern


def _held(affix: str) -> str:
    """With the symbol kept in its own order: in a line from right to left, `US$` ends in `$US`."""
    return affix.replace("¤", f"{_LEFT_TO_RIGHT}¤{_LEFT_TO_RIGHT}")


def _before_digits(affix: str) -> str:
    return f"{affix}{_NO_BREAK}" if affix.endswith("¤") else affix


def _after_digits(affix: str) -> str:
    return f"{_NO_BREAK}{affix}" if affix.startswith("¤") else affix


def quantity(value: Decimal, locale: str = LOCALE) -> str:
    """`10,000`, `0.5`: grouped, with every digit it has."""
    with localcontext(_WIDE):
        shown = format_decimal(Decimal(plain(value)), locale=locale, decimal_quantization=False)
    return shown.replace(HYPHEN, MINUS)


def decimals(value: Decimal, places: int, locale: str = LOCALE) -> str:
    """`160`, `1,234.50`: grouped, with exactly so many decimals."""
    pattern: NumberPattern = copy(Locale.parse(locale).decimal_formats[None])
    pattern.frac_prec = (places, places)
    with localcontext(_WIDE):
        text: str = pattern.apply(value, locale)
    return text.replace(HYPHEN, MINUS)


# The largest unit that an age has at least one of; days beyond two days.
_UNITS = ((172_800, 86_400, "days"), (3_600, 3_600, "h"), (60, 60, "min"), (0, 1, "s"))


def relative(at: datetime, now: datetime, locale: str = LOCALE) -> str:
    """`12 s ago`, `in 4 min`, `30 h ago`, `3 days ago`."""
    seconds = int((now - at).total_seconds())
    size = abs(seconds)
    _, unit, name = next(each for each in _UNITS if size >= each[0])
    count = quantity(Decimal(size // unit), locale)
    return f"in {count} {name}" if seconds < 0 else f"{count} {name} ago"


def instant(at: datetime, locale: str | None = None) -> str:
    """`17 Nov 2026, 02:14:05 UTC`; in the locale's own form where one is given."""
    utc = at.astimezone(UTC)
    if locale is None:
        return f"{utc:%-d %b %Y, %H:%M:%S} UTC"
    return f"{format_datetime(utc, 'medium', locale=locale)} UTC"


def clock(at: datetime, locale: str = LOCALE) -> str:
    """`2:14:05 AM`, `02:14:05`: UTC."""
    return format_time(at.astimezone(UTC), "medium", locale=locale)


def day(at: datetime, locale: str = LOCALE, *, year: bool = False) -> str:
    """`Nov 30`, `30 Nov`, `30. Nov.`, with its year `Nov 30, 2026`."""
    return format_skeleton("yMMMd" if year else "MMMd", at.astimezone(UTC), locale=locale)


def days(start_at: datetime, end_at: datetime, locale: str = LOCALE) -> str:
    """`1–30 Nov`, `10 Nov – 10 Dec`: with the years only where they are needed.

    What ends at midnight ends with the day before; what ends at 10:23 ends that day.
    """
    first, last = start_at.astimezone(UTC).date(), last_day(end_at).date()
    skeleton = "yMMMd" if is_long(start_at, end_at) else "MMMd"
    if first == last:
        return format_skeleton(skeleton, first, locale=locale)
    return format_interval(first, last, skeleton, locale=locale)


def period(start_at: datetime, end_at: datetime, locale: str = LOCALE) -> str:
    """`1–30 Nov, UTC`."""
    return f"{days(start_at, end_at, locale)}, UTC"


def is_long(start_at: datetime, end_at: datetime) -> bool:
    """Whether a day and a month alone may be misread: it nears the length of a year."""
    return end_at - start_at > _LONG


def last_day(end_at: datetime) -> datetime:
    """An instant of the last day of what ends there."""
    return (end_at - _INSTANT).astimezone(UTC)
