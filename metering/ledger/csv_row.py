"""A row of a CSV as an event, carefully: every mistake named, also those that only files have."""

from collections.abc import Sequence
from typing import Any

from metering.ledger import careful, literal, values
from metering.ledger.append import Entry
from metering.ledger.careful import RefusedError
from metering.ledger.chunks import Reading
from metering.ledger.csv_columns import NAMES, REQUIRED, Columns


def read(row: Sequence[str], columns: Columns, reading: Reading) -> Entry:
    """Read a row. Raises RefusedError.

    An empty cell is no value; what must be there is then told to be too short.
    """
    if len(row) != columns.width:
        raise RefusedError(_counts(row, columns))
    pairs: list[tuple[str, Any]] = []
    mistakes = []
    for name, at in zip(NAMES, columns.places, strict=True):
        cell = row[at] if at < columns.width else ""
        if at == columns.width or (not cell and name not in (*REQUIRED, "tenantId")):
            continue
        try:
            pairs.append((name, _meta(cell) if name == "meta" else _hinted(name, cell)))
        except ValueError as error:
            mistakes.append(f"{name}: {error}")
            # Good, so that the others' mistakes are told besides and this one once.
            pairs.append((name, _GOOD[name]))
    try:
        entry = careful.read(literal.Object(pairs), reading.tenant_id, reading.now)
    except RefusedError as error:
        mistakes.append(str(error))
    if mistakes:
        raise RefusedError("; ".join(mistakes))
    return entry


_GOOD: dict[str, Any] = {
    "quantity": "0",
    "ts": "2000-01-01T00:00:00Z",
    "meta": literal.Object([]),
}


def _counts(row: Sequence[str], columns: Columns) -> str:
    said = f"has {len(row)} column{'s' * (len(row) != 1)} where the first line has {columns.width}"
    for divider, called in ((";", "semicolons"), ("\t", "tabs")):
        if len(row) == 1 and row[0].count(divider) == columns.width - 1 > 0:
            return f"{said}: it is divided by {called} instead of commas"
    return said


def _hinted(name: str, cell: str) -> str:
    """The cell; ValueError where a wrong value shows what went wrong with the file."""
    if name == "quantity" and not values.QUANTITY.fullmatch(cell):
        if _looks_like_instant(cell):
            raise ValueError(f"'{cell[:40]}' is not a number; are columns swapped?")
        whole, comma, part = cell.partition(",")
        if comma and whole.removeprefix("-").isdigit() and part.isdigit():
            raise ValueError(
                f"'{cell[:40]}' has a comma where a decimal point, or nothing, is to stand"
            )
    if name == "ts" and values.QUANTITY.fullmatch(cell):
        raise ValueError(f"'{cell[:40]}' is not an instant; are columns swapped?")
    return cell


def _looks_like_instant(cell: str) -> bool:
    return len(cell) >= 10 and cell[:4].isdigit() and cell[4] == "-" and cell[5:7].isdigit()


def _meta(cell: str) -> Any:
    values.check_text(cell)
    try:
        return literal.loads(cell.encode())
    except RecursionError:
        raise ValueError("is nested too deeply to be read") from None
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None
