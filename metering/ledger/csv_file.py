"""CSV (RFC 4180): an event a record, which may span lines where a quoted cell does."""

import csv
from collections.abc import Iterator
from datetime import datetime
from operator import itemgetter

import msgspec
from msgspec import Raw

from metering.ledger import careful, csv_row, values
from metering.ledger.append import Entry
from metering.ledger.chunks import (
    BYTE_ORDER_MARK,
    MAX_LINE_BYTES,
    Chunk,
    FileError,
    Place,
    Reading,
    check_kind,
    shorten,
    too_long,
)
from metering.ledger.csv_columns import NAMES, Columns, columns
from metering.ledger.identity import key_of_text
from metering.ledger.plain import is_plain_number
from metering.ledger.values import AHEAD, END_INSTANT, FIRST_INSTANT, is_plain_meta

_is_instant = values.INSTANT.fullmatch
_read_instant = datetime.fromisoformat


def read(reading: Reading, place: Place, body: bytes, *, is_last: bool, parts: int) -> Chunk:
    """Read on from a place. body: the next `parts` parts.

    Raises: FileError if the file as a whole cannot be read, which its beginning shows.
    """
    data = place.rest + body
    end = len(data) if is_last else data.rfind(b"\n") + 1
    header, begin = place.header, 0
    if header is None:
        check_kind(data)
        begin = data.find(b"\n") + 1 or len(data)
        header = data[:begin]
        if begin > MAX_LINE_BYTES or (begin > end and len(data) > MAX_LINE_BYTES):
            raise FileError("The first line is too long to be the header of a CSV.")
        if begin > end:
            return Chunk(place, Place(place.parts + parts, 0, data), len(body), 1, [])
        header = header.removeprefix(BYTE_ORDER_MARK)
    found = columns(header)
    first = place.lines + 1 + (place.header is None)
    lines, is_odd = _lines(data[begin:end])
    records = _Records(lines, found.width, is_last=is_last)
    chunk = Chunk(place, place, len(body), first, lines)
    _take(records, chunk, reading, found, is_odd)
    for at, why in records.broken:
        chunk.refuse(first + at, why)
    rest = "".join(lines[records.read :]).encode(errors="surrogateescape") + shorten(data[end:])
    chunk.after = Place(place.parts + parts, first - 1 + records.read, rest, header)
    return chunk


def _lines(data: bytes) -> tuple[list[str], bool]:
    """(the lines with their ends, whether any may hold a NUL or bytes that are not UTF-8)."""
    try:
        text, is_odd = data.decode(), b"\x00" in data
    except UnicodeDecodeError:
        text, is_odd = data.decode(errors="surrogateescape"), True
    parts = text.split("\n")
    lines = [f"{part}\n" for part in parts[:-1]]
    if parts[-1]:
        lines.append(parts[-1])
    return lines, is_odd


class _Records:
    """Divides lines into records.

    broken: lines that begin no record that could be read, and why; reading goes on behind each.
    read: how many lines have been read to the end of their record.
    """

    def __init__(self, lines: list[str], width: int, *, is_last: bool) -> None:
        self._lines, self._width, self._is_last = lines, width, is_last
        self.broken: list[tuple[int, str]] = []
        self.read = 0

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """(position of its first line, cells) of each record that is not blank."""
        begin = 0
        for at, line in enumerate(self._lines):
            # In bytes it may be longer still; a quarter of the bound is beyond any good line.
            if len(line) > MAX_LINE_BYTES // 4 and len(line.encode(errors="replace")) > (
                MAX_LINE_BYTES
            ):
                yield from self._stretch(begin, at, goes_on=False)
                self.broken.append((at, too_long()))
                begin = self.read = at + 1
        yield from self._stretch(begin, len(self._lines), goes_on=not self._is_last)

    def _stretch(self, begin: int, end: int, *, goes_on: bool) -> Iterator[tuple[int, list[str]]]:
        """The records of a stretch of lines. goes_on: the last one may end in the next chunk."""
        while begin < end:
            source = iter(self._lines if end == len(self._lines) else self._lines[:end])
            source.__setstate__(begin)  # type: ignore[attr-defined]  # on from there, uncopied
            reader = csv.reader(source, strict=True)
            first = begin
            try:
                for row in reader:
                    after = begin + reader.line_num
                    if row:
                        is_suspect = after > first + 1 and len(row) != self._width
                        if is_suspect and self._hold_records(first + 1, after):
                            break
                        self.read = after
                        yield first, row
                    first = after
                else:
                    self.read = end
                    return
                why = "a quote in this line opens a cell that ends in a later one, and wrongly"
            except csv.Error as error:
                if str(error) == "unexpected end of data":
                    if goes_on and sum(map(len, self._lines[first:end])) <= MAX_LINE_BYTES:
                        self.read = first
                        return
                    why = "a quote in this line opens a cell that is never closed"
                else:
                    why = _words(error)
            # The lines behind the first one get a chance of their own.
            self.broken.append((first, why))
            begin = self.read = first + 1

    def _hold_records(self, begin: int, end: int) -> bool:
        """True if a line among these is a whole record by itself: then it was a stray quote that
        made one record of many."""
        for line in self._lines[begin:end]:
            try:
                if len(next(csv.reader([line], strict=True), [])) == self._width:
                    return True
            except csv.Error:
                continue
        return False


def _words(error: csv.Error) -> str:
    text = str(error)
    if "field larger" in text:
        return "a cell is longer than 131,072 characters"
    if "new-line character" in text:
        return "holds a carriage return outside of quotes"
    return "a quoted cell goes on behind its closing quote; a quote inside of it is to be doubled"


def _take(records: _Records, chunk: Chunk, reading: Reading, found: Columns, is_odd: bool) -> None:
    """Make entries of the records. One loop, for calls would cost more than their work."""
    cells, width, tenant_id = itemgetter(*found.places), found.width, reading.tenant_id
    tenant_cell = tenant_id if found.names_tenant else ""
    latest = min(reading.now + AHEAD, END_INSTANT)
    entries, lines, first = chunk.entries.append, chunk.lines.append, chunk.first
    for at, row in records:
        if len(row) == width and not (is_odd and _is_odd(row)):
            row.append("")
            tenant, metric, customer, resource, quantity, ts, source, meta, key = cells(row)
            if (
                tenant == tenant_cell
                and 0 < len(metric) <= values.MAX_METRIC
                and 0 < len(customer) <= values.MAX_CUSTOMER
                and len(resource) <= values.MAX_RESOURCE
                and len(source) <= values.MAX_SOURCE
                and len(key) <= values.MAX_KEY
                and is_plain_number(quantity)
                and _is_instant(ts)
                and (not meta or _is_plain(meta))
            ):
                try:
                    occurred_at = _read_instant(ts)
                except ValueError:
                    occurred_at = END_INSTANT
                if FIRST_INSTANT <= occurred_at <= latest and occurred_at < END_INSTANT:
                    resource_id = resource or None
                    entries(
                        Entry(
                            key
                            or key_of_text(
                                tenant_id, metric, customer, resource_id, ts, occurred_at
                            ),
                            metric,
                            customer,
                            Raw(b'"%b"' % quantity.encode()),
                            ts,
                            resource_id,
                            Raw(meta.encode()) if meta else None,
                            source or None,
                        )
                    )
                    lines(first + at)
                    continue
            row.pop()
        try:
            if is_odd:
                _check_bytes(row, found)
            entries(csv_row.read(row, found, reading))
        except careful.RefusedError as error:
            chunk.refuse(first + at, str(error))
        else:
            lines(first + at)


def _is_plain(meta: str) -> bool:
    """True for a cell that may be taken as it stands, being JSON without oddities."""
    text = meta.encode()
    if not is_plain_meta(text) or "\\u" in meta:
        return False
    try:
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True


def _is_odd(row: list[str]) -> bool:
    text = "".join(row)
    return not (text.isascii() or _is_utf8(text)) or "\x00" in text


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_bytes(row: list[str], found: Columns) -> None:
    for place, cell in enumerate(row):
        try:
            cell.encode()
        except UnicodeEncodeError as error:
            text = cell.encode(errors="surrogateescape")
            why = careful.not_utf8(text, len(cell[: error.start].encode()))
            name = f"{NAMES[found.places.index(place)]}: " if place in found.places else ""
            raise careful.RefusedError(name + why) from None
