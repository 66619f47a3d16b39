"""What the walk of an event is made of: steps, and the first of them that is not done."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from pricing.numbers import plain

NAMES = ("received", "ledger", "counter", "price", "push", "acceptance", "invoice")
DONE, WAITING, STOPPED, NOT_APPLICABLE = "done", "waiting", "stopped", "not_applicable"
STATUSES = (DONE, WAITING, STOPPED, NOT_APPLICABLE)


@dataclass(frozen=True)
class Step:
    """One step of an event's way to the bill.

    status:   `done`; `waiting`: it comes by itself, or by a decision that is asked for; `stopped`:
              it does not come unless somebody mends what the sentence names; `not_applicable`.
    sentence: what is so, and why, for somebody who reads it to a customer.
    facts:    of instants, decimals, texts, flags, and lists of the same.
    """

    step: str
    status: str
    sentence: str
    at: datetime | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        return self.status in (WAITING, STOPPED)


def first_open(steps: Iterable[Step]) -> Step | None:
    """The first step that is not done though it should be."""
    return next((step for step in steps if step.is_open), None)


def on(at: datetime) -> str:
    """`17 Nov 2026, 02:14 UTC`."""
    return f"{at.astimezone(UTC):%-d %b %Y, %H:%M} UTC"


def number(value: Decimal) -> str:
    """Plain digits, as on the wire."""
    return plain(value)


def sentence(text: str) -> str:
    """With a full stop."""
    return text if text.endswith((".", "!", "?")) else f"{text}."
