"""The first line of a CSV of events: which column holds what."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from metering.ledger.chunks import FileError

NAMES = (
    "tenantId", "metric", "customerRef", "resourceId", "quantity", "ts", "source", "meta",
    "idempotencyKey",
)  # fmt: skip
REQUIRED = ("metric", "customerRef", "quantity", "ts")
_ALIASES = {re.sub("([A-Z])", r"_\1", name).lower(): name for name in NAMES}
_BY_NAME = {name: name for name in NAMES} | _ALIASES


@dataclass(frozen=True)
class Columns:
    """width: how many there are.  places: of each of `NAMES`; `width` where there is none."""

    width: int
    places: tuple[int, ...]

    @property
    def names_tenant(self) -> bool:
        return self.places[0] < self.width


@lru_cache(maxsize=8)
def columns(header: bytes) -> Columns:
    """Read a header. Raises FileError for one that cannot be relied on, saying why."""
    try:
        text = header.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise FileError(
            "The first line is not UTF-8: save the file as CSV UTF-8 and send it again."
        ) from None
    if "\r" in text:
        raise FileError("The lines are divided by carriage returns only: save with line feeds.")
    try:
        names = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise FileError(f"The first line is not the header of a CSV: {error}.") from None
    if not any(names):
        raise FileError("The file's first line is empty; it must name the columns.")
    _check(names, text)
    found = [_BY_NAME[name] for name in names]
    width = len(found)
    places = {name: at for at, name in enumerate(found)}
    return Columns(width, tuple(places.get(name, width) for name in NAMES))


def _check(names: Sequence[str], text: str) -> None:
    for divider, called in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(names) == 1 and divider in text:
            raise FileError(
                f"The columns are divided by {called}; a CSV's are divided by commas. Excel writes"
                " commas where its list separator is one, and a decimal point where numbers have"
                " one."
            )
    known = f"The columns are {', '.join(NAMES)}; {', '.join(REQUIRED)} are required."
    for name in names:
        if name not in _BY_NAME:
            shown = f"an unknown column {_shown(name)}" if name else "a column without a name"
            raise FileError(f"The file has {shown}. {known}")
    seen: set[str] = set()
    for name in names:
        if _BY_NAME[name] in seen:
            raise FileError(f"The column {_BY_NAME[name]} stands twice in the first line.")
        seen.add(_BY_NAME[name])
    missing = [name for name in REQUIRED if name not in seen]
    if missing:
        raise FileError(f"The file has no column {' and no column '.join(missing)}. {known}")


def _shown(name: str) -> str:
    shown = name if len(name) <= 40 else f"{name[:40]}…"
    return "'" + "".join(each if each.isprintable() else "�" for each in shown) + "'"
