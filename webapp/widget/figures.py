"""Figures and names as they stand in a widget's sentences."""

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from pricing.money import Currency
from webapp import shown

_FIRST_STRONG, _POP = "\u2068", "\u2069"
# What turns the direction of the text around it: a name does so within itself only.
_CONTROLS = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Figures:
    """`shown`, in one locale, and safe within a sentence of another direction."""

    locale: str

    def amount(self, minor: int | Decimal, of: Currency) -> str:
        return isolated(shown.amount(minor, of, self.locale))

    def about(self, minor: int | Decimal, of: Currency) -> str:
        return isolated(shown.about(minor, of, self.locale))

    def rate(self, minor: Decimal, of: Currency) -> str:
        return isolated(shown.rate(minor, of, self.locale))

    def quantity(self, value: Decimal | int) -> str:
        return isolated(shown.quantity(Decimal(value), self.locale))

    def decimals(self, value: Decimal, places: int) -> str:
        """With exactly so many decimals."""
        return isolated(shown.decimals(value, places, self.locale))

    def day(self, at: datetime, *, year: bool = False) -> str:
        return isolated(shown.day(at, self.locale, year=year))

    def days(self, start_at: datetime, end_at: datetime) -> str:
        return isolated(shown.days(start_at, end_at, self.locale))

    def period(self, start_at: datetime, end_at: datetime) -> str:
        return isolated(shown.period(start_at, end_at, self.locale))

    def instant(self, at: datetime) -> str:
        return isolated(shown.instant(at, self.locale))

    def clock(self, at: datetime) -> str:
        return isolated(shown.clock(at, self.locale))


def isolated(text: str) -> str:
    """Set off where it runs from right to left, so that the sentence around it keeps its order."""
    if any(unicodedata.bidirectional(each) in ("R", "AL") for each in text):
        return f"{_FIRST_STRONG}{text}{_POP}"
    return text


def name(text: str) -> str:
    """What somebody called something, within a sentence."""
    return isolated(_CONTROLS.sub("", text))


def ended(text: str) -> str:
    """A sentence that ends in an abbreviation (`30. Nov.`) ends in one full stop."""
    return text.removesuffix(".") if text.endswith("..") else text


def pixels(text: str) -> float:
    """About how wide the text is at 13 px, to tell whether two labels touch."""
    return sum(_width(each) for each in text)


def _width(each: str) -> float:
    if unicodedata.category(each) in ("Cf", "Mn", "Me"):
        return 0.0
    if unicodedata.east_asian_width(each) in ("W", "F"):
        return 13.0
    return 3.9 if each in " .,:;’'()|\u00a0\u202f" else 7.3
