"""Rows as CSV (RFC 4180), safe to open in a spreadsheet: no customer's text becomes a formula."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import chain

from sqlalchemy.orm import Session

# What a spreadsheet takes for the beginning of a formula, also behind a tab or a line break.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def cell(value: object) -> str:
    """A value as the text of its cell; a text that could be a formula gets an apostrophe.

    A number is no text: a negative amount stays one that can be summed up.
    """
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return f"{value:f}"
    text = str(value)
    if isinstance(value, int) or not text.startswith(_FORMULA):
        return text
    return f"'{text}"


def lines(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """The file line by line, the header first."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    for row in chain([header], rows):
        writer.writerow([cell(value) for value in row])
        yield _taken(buffer)


def closing(session: Session, lines: Iterator[str]) -> Iterator[str]:
    """Lines that are read from the database while they are sent: the request's session has been
    closed by then, and what is read after that gives its connection back here."""
    try:
        yield from lines
    finally:
        session.close()


def _taken(buffer: io.StringIO) -> str:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text
