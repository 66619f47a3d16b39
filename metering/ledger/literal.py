"""JSON read without losing anything: numbers keep their digits, objects their repeated names.

For the careful lane only, which goes over batches that the fast lane refused.
"""

import json
from typing import Any


class Number:
    """A JSON number as it was written, `NaN` and `Infinity` among them."""

    def __init__(self, digits: str) -> None:
        self.digits = digits


class Object(dict[str, Any]):
    """A JSON object; `pairs` holds its members as they came, repetitions included."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs

    @property
    def repeated(self) -> str | None:
        """A name that stands twice, or None."""
        if len(self.pairs) == len(self):
            return None
        seen: set[str] = set()
        return next(name for name, _ in self.pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]


def loads(text: bytes) -> Any:
    """Parse UTF-8 JSON. Raises ValueError (RecursionError for absurd nesting)."""
    return json.loads(
        text.decode(),
        object_pairs_hook=Object,
        parse_int=Number,
        parse_float=Number,
        parse_constant=Number,
    )


def depth(value: Any) -> int:
    """How many objects and arrays are nested in each other; 1 for a flat object."""
    deepest, level = 0, [value]
    while level:
        inner: list[Any] = []
        for item in level:
            if isinstance(item, Object):
                inner.extend(member for _, member in item.pairs)
            elif isinstance(item, list):
                inner.extend(item)
        if not any(isinstance(item, Object | list) for item in level):
            break
        deepest += 1
        level = inner
    return deepest


def compact(value: Any) -> str:
    """The value as JSON text without spaces, every number with the digits it came with.

    Raises: ValueError for what JSON or Postgres cannot hold: NaN, a NUL, a lone surrogate.
    """
    if isinstance(value, Object):
        members = (f"{compact(name)}:{compact(member)}" for name, member in value.pairs)
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(compact, value)) + "]"
    if isinstance(value, Number):
        if value.digits in ("NaN", "Infinity", "-Infinity"):
            raise ValueError(f"must not hold {value.digits}, which is not JSON")
        return value.digits
    if isinstance(value, str):
        return _string(value)
    return json.dumps(value)


def _string(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain a lone surrogate") from None
    return json.dumps(text, ensure_ascii=False)
