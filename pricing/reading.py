"""Reads what people write: members by their camelCase or snake_case name, and no others."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from pricing.errors import PricingError, quoted
from pricing.numbers import MAX_DECIMALS, MAX_QUANTITY, ZERO, bounded

# Halves of a character, which no encoding has, and NUL, which no database keeps.
_UNWRITABLE = re.compile(r"[\x00\ud800-\udfff]")


def snake(name: str) -> str:
    """`unitPrice` as `unit_price`; a name in snake_case stays."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda found: "_" + found[1].lower(), name)


def camel(name: str) -> str:
    """`unit_price` as `unitPrice`."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


class Members:
    """The members of one object, taken by their snake_case names.

    A name that nobody takes is refused: a misspelt `minimumCharge` that is silently dropped
    changes what people pay. None counts as absent.
    """

    def __init__(self, given: Any, path: str = "") -> None:
        if not isinstance(given, Mapping):
            raise PricingError(path, "must be an object")
        self.path = path
        self._values: dict[str, Any] = {}
        self._names: dict[str, str] = {}
        for name, value in given.items():
            if not isinstance(name, str):
                raise PricingError(path, "has a member whose name is no text")
            known = snake(name)
            if known in self._names:
                raise PricingError(self._join(name), "is given twice")
            self._names[known] = name
            if value is not None:
                self._values[known] = value
        self._taken: set[str] = set()

    def at(self, name: str) -> str:
        """The path of a member, as it was spelt."""
        return self._join(self._names.get(name, camel(name)))

    def _join(self, name: str) -> str:
        # As in a JSON pointer: a name's own slash is none of the path's.
        name = name.replace("~", "~0").replace("/", "~1")
        return f"{self.path}/{name}" if self.path else name

    def take(self, name: str) -> Any:
        """The member, or None."""
        self._taken.add(name)
        return self._values.get(name)

    def has(self, name: str) -> bool:
        return name in self._values

    def says(self, name: str) -> bool:
        """True if the member is written there, be it as null."""
        return name in self._names

    def number(
        self,
        name: str,
        *,
        least: Decimal = ZERO,
        below: Decimal = MAX_QUANTITY,
        decimals: int = MAX_DECIMALS,
    ) -> Decimal | None:
        value = self.take(name)
        if value is None:
            return None
        return bounded(value, self.at(name), least=least, below=below, decimals=decimals)

    def whole(self, name: str, *, least: int = 0, below: int = 10**15) -> int | None:
        value = self.number(name, least=Decimal(least), below=Decimal(below), decimals=0)
        return None if value is None else int(value)

    def text(self, name: str, *, most: int = 500) -> str | None:
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise PricingError(self.at(name), "must be a text")
        if len(value) > most:
            raise PricingError(self.at(name), f"has more than {most} characters")
        if _UNWRITABLE.search(value):
            raise PricingError(self.at(name), "holds a character that cannot be written")
        return value

    def choice(self, name: str, allowed: Sequence[str]) -> str | None:
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, str) or value not in allowed:
            raise PricingError(
                self.at(name), f"must be one of {', '.join(allowed)}; it is {quoted(value)}"
            )
        return value

    def items(self, name: str, *, most: int = 10_000) -> list[Any]:
        value = self.take(name)
        if value is None:
            return []
        if not isinstance(value, list | tuple):
            raise PricingError(self.at(name), "must be a list")
        if len(value) > most:
            raise PricingError(self.at(name), f"holds more than {most} members")
        return list(value)

    def instant(self, name: str) -> datetime | None:
        """An aware instant: a datetime, or ISO 8601 with an offset."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                raise PricingError(self.at(name), "is not an ISO 8601 instant") from None
        if not isinstance(value, datetime):
            raise PricingError(self.at(name), "must be an ISO 8601 instant")
        if value.tzinfo is None:
            raise PricingError(self.at(name), "needs an offset from UTC, such as Z")
        try:
            return value.astimezone(UTC)
        except OverflowError:
            raise PricingError(self.at(name), "lies outside of the calendar") from None

    def needed(self, name: str) -> Any:
        """The member, or PricingError."""
        value = self.take(name)
        if value is None:
            raise PricingError(self.at(name), "is required")
        return value

    def finish(self) -> None:
        """Refuse what nobody has taken."""
        for name, spelt in self._names.items():
            if name not in self._taken:
                raise PricingError(self._join(spelt), "is not a name that is known here")
