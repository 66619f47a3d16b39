"""The two forms of a statement's lines: JSON lines for programs, CSV for spreadsheets.

Pure, and shared by who writes a statement and who checks one. A record is a flat dict of texts,
whole numbers, true and false; what is None is left out. A line never holds a line break.
"""

import base64
import csv
import hashlib
import io
import json
from collections.abc import Mapping
from typing import Any

FORMATS = ("ndjson", "csv")
# Bytes of a SHA-256 that stand for a line.
DIGEST_BYTES = 9
NUMBERS = frozenset({"quantity", "delta", "value", "amount", "carried"})
COLUMNS = (
    "type", "n", "id", "metric", "quantity", "ts", "recordedAt", "resourceId", "source", "status",
    "counts", "kind", "reason", "disposition", "delta", "decidedAt", "decidedBy", "note",
    "aggregation", "value", "unit", "amount", "currency", "carried", "version", "tenantId",
    "customerRef", "periodStart", "periodEnd", "asOf", "generatedAt", "digest",
)  # fmt: skip
SIGNATURE_MARK = "# "
# What a spreadsheet would take for a formula; the apostrophe before it is taken off again.
_GUARDED = ("=", "+", "-", "@", "\t", "'")

Record = Mapping[str, Any]


def line_digest(line: bytes) -> bytes:
    """What stands in the signature for a line, without its line break."""
    return hashlib.sha256(line).digest()[:DIGEST_BYTES]


def record_digest(record: Record) -> str:
    """What a record says of itself, the same in both forms: of its members' texts, by name."""
    texts = {
        name: text(value)
        for name, value in record.items()
        if name != "digest" and value is not None
    }
    return base64.b64encode(line_digest(canonical(texts))).decode()


def canonical(members: Record) -> bytes:
    """JSON without spaces, the names sorted, in UTF-8."""
    written = json.dumps(members, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return written.encode()


def text(value: Any) -> str:
    """A member as text: true is `true`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def head(form: str) -> bytes | None:
    """What stands before the first record; None: nothing."""
    return ",".join(COLUMNS).encode() if form == "csv" else None


def write(form: str, record: Record) -> bytes:
    """A record as a line, without its line break."""
    known = {name: value for name, value in record.items() if value is not None}
    if form == "ndjson":
        return json.dumps(known, ensure_ascii=False, separators=(",", ":")).encode()
    buffer = io.StringIO()
    row = [_cell(name, text(known[name])) if name in known else "" for name in COLUMNS]
    csv.writer(buffer, lineterminator="").writerow(row)
    return buffer.getvalue().encode()


def read(form: str, line: bytes) -> dict[str, Any]:
    """The record of a line, its members as texts. Raises: ValueError if it is none."""
    if form == "ndjson":
        members = json.loads(line)
        if not isinstance(members, dict):
            raise ValueError("is no JSON object")
        return {name: text(value) for name, value in members.items()}
    try:
        rows = list(csv.reader(io.StringIO(line.decode(), newline=""), strict=True))
    except csv.Error as error:
        raise ValueError(str(error)) from None
    if len(rows) != 1 or len(rows[0]) != len(COLUMNS):
        raise ValueError("has not the columns of a statement")
    cells = zip(COLUMNS, rows[0], strict=True)
    return {name: _uncell(name, cell) for name, cell in cells if cell}


def write_signature(form: str, members: Record) -> bytes:
    """The last line; in CSV behind a mark, for it is no row."""
    written = json.dumps(members, ensure_ascii=False, separators=(",", ":"))
    return (written if form == "ndjson" else f"{SIGNATURE_MARK}{written}").encode()


def read_signature(form: str, line: bytes) -> dict[str, Any]:
    """The members of the last line. Raises: ValueError if it is no signature."""
    if form == "csv":
        if not line.startswith(SIGNATURE_MARK.encode()):
            raise ValueError("is no signature")
        line = line.removeprefix(SIGNATURE_MARK.encode())
    members = json.loads(line)
    if not isinstance(members, dict) or members.get("type") != "signature":
        raise ValueError("is no signature")
    return members


def _cell(name: str, value: str) -> str:
    """An empty text is no empty cell: that is what a record does not say."""
    value = value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    is_guarded = name not in NUMBERS and (not value or value.startswith(_GUARDED))
    return f"'{value}" if is_guarded else value


_ESCAPED = {"n": "\n", "r": "\r", "\\": "\\"}


def _uncell(name: str, cell: str) -> str:
    if name not in NUMBERS and cell.startswith("'"):
        cell = cell[1:]
    if "\\" not in cell:
        return cell
    parts, at = [], 0
    while at < len(cell):
        if cell[at] == "\\" and cell[at + 1 : at + 2] in _ESCAPED:
            parts.append(_ESCAPED[cell[at + 1]])
            at += 2
        else:
            parts.append(cell[at])
            at += 1
    return "".join(parts)
