"""The form by which a delta is made by hand."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from metering.counters import adjustments
from metering.counters.adjustments import Wanted
from metering.ledger import values
from pricing import PricingError
from pricing.numbers import MAX_QUANTITY, bounded
from webapp.adjustments_console import words

REASONS = [(value, words.REASONS[value]) for value in ("credit", "correction", "promo", "manual")]
FIELDS = ("customer", "metric", "delta", "reason", "day", "note")


@dataclass(frozen=True)
class Checked:
    """wanted: None where `errors` has something to say, by field."""

    wanted: Wanted | None
    errors: dict[str, str]


def check(typed: Mapping[str, str], now: datetime) -> Checked:
    """What was typed, read; every mistake with its field."""
    errors: dict[str, str] = {}
    customer, metric, note = typed["customer"], typed["metric"], typed["note"]
    for name, value, most in (("customer", customer, 255), ("metric", metric, 100)):
        if not 1 <= len(value) <= most:
            errors[name] = f"Write 1 to {most} characters."
    for name, value in (("customer", customer), ("metric", metric), ("note", note)):
        if "\x00" in value:
            errors[name] = "This holds a character that cannot be kept."
    if len(note) > adjustments.MAX_NOTE:
        errors["note"] = f"Write at most {adjustments.MAX_NOTE:,} characters."
    if typed["reason"] not in dict(REASONS):
        errors["reason"] = "Choose one of these."
    delta = _delta(typed["delta"], errors)
    instant = _instant(typed["day"], now, errors)
    if errors or delta is None:
        return Checked(None, errors)
    return Checked(Wanted(customer, metric, delta, typed["reason"], instant, note or None), errors)


def _delta(text: str, errors: dict[str, str]) -> Decimal | None:
    # As people write it: with a real minus, or grouped.
    plain = text.replace("\u2212", "-").replace(",", "").replace(" ", "")
    try:
        delta = bounded(plain, "", least=-MAX_QUANTITY)
    except PricingError as error:
        reason = "Write a number such as -20." if not plain else f"This {error.reason}."
        errors["delta"] = reason
        return None
    if not delta:
        errors["delta"] = "0 units change nothing."
        return None
    return delta


def _instant(text: str, now: datetime, errors: dict[str, str]) -> datetime | None:
    """Midnight in UTC of the day; None: now."""
    if not text:
        return None
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        errors["day"] = "Write a day like 2026-11-30."
        return None
    if day > now:
        errors["day"] = "This period has not begun."
    elif day < values.FIRST_INSTANT:
        errors["day"] = f"This lies before the year {values.FIRST_YEAR}."
    return day
