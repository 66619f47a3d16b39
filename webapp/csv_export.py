"""CSV for spreadsheets: what a tenant typed must not run there as a formula."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

# A cell that begins with one of these is a formula to a spreadsheet; a tab or a return before it
# does not change that.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Number(str):
    """Plain digits of our own making: -12.50 is a number to a spreadsheet and must stay one."""


def cell(value: object) -> str:
    """The value as text; what would be a formula is prefixed with an apostrophe."""
    if value is None:
        return ""
    text = str(value)
    if isinstance(value, str) and not isinstance(value, Number) and text.startswith(_FORMULA):
        return f"'{text}"
    return text


def lines(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """The file's lines, one at a time, so that any size streams."""
    yield _line(header)
    for values in rows:
        yield _line(values)


def _line(values: Sequence[object]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow([cell(value) for value in values])
    return buffer.getvalue()
