"""Which months a back-test is about: named, or by their span, or the last ones that are over."""

from typing import Any

from flask import g

from metering.billing import question
from metering.catalog.period import calendar_month
from metering.errors import InvalidInputError
from webapp import wire

DEFAULT_MONTHS = 3


def asked(body: dict[str, Any]) -> list[str]:
    if "months" in body:
        if "since" in body or "until" in body:
            raise wire.invalid_field("months", "and since or until exclude each other")
        months: list[str] = body["months"]
        return months
    if "since" not in body:
        if "until" in body:
            raise wire.invalid_field("since", "is required with until")
        return _past(DEFAULT_MONTHS)
    months = question.months_between(body["since"], body.get("until", g.now))
    if not months:
        raise InvalidInputError("no month begins in this span", pointer="/since")
    return months


def _past(count: int) -> list[str]:
    """The last months that are over, ascending."""
    found: list[str] = []
    month = calendar_month(g.now)
    for _ in range(count):
        month = question.month_before(month)
        found.insert(0, f"{month.start_at:%Y-%m}")
    return found
