"""A file of events is read in chunks: where one ended, and what it held.

Lines are those that an editor shows: divided by line feeds, the first one is 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from metering.ledger.append import Entry

MAX_LINE_BYTES = 1024 * 1024
EXCERPT = 200
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Files of another kind, by what they begin with.
_STRANGERS = (
    (b"\xff\xfe", "The file is UTF-16: save it as CSV UTF-8, or convert it with"
     " `iconv -f UTF-16 -t UTF-8`."),
    (b"\xfe\xff", "The file is UTF-16: save it as CSV UTF-8, or convert it with"
     " `iconv -f UTF-16 -t UTF-8`."),
    (b"\x1f\x8b", "The file is compressed by gzip: send it with Content-Encoding: gzip, or"
     " unpack it first."),
    (b"PK\x03\x04", "The file is a zip archive or an Excel workbook: save it as CSV UTF-8 first."),
)  # fmt: skip
_LOOKED_AT = 4096


class FileError(Exception):
    """The file as a whole cannot be read; nothing of it is in the ledger."""


@dataclass(frozen=True)
class Place:
    """How far a file has been read.

    parts: those read.  lines: those read to their end.  rest: bytes behind these lines.
    header: the first line of a CSV, once it is known.
    """

    parts: int = 0
    lines: int = 0
    rest: bytes = b""
    header: bytes | None = None


class Refusal(NamedTuple):
    """A line that does not go into the ledger, and why."""

    line: int
    message: str
    excerpt: str


@dataclass
class Chunk:
    """What stands between two places of a file. lines: where each entry stands, beside it.

    size: bytes of the parts it was read from.
    texts: the chunk's lines, of which `first` is the number of the first one.
    """

    before: Place
    after: Place
    size: int
    first: int
    texts: Sequence[str | bytes]
    entries: list[Entry] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def refuse(self, line: int, message: str) -> None:
        """Write down that the line is not taken."""
        text = self.texts[line - self.first]
        self.refusals.append(Refusal(line, message, excerpt(text)))


@dataclass(frozen=True)
class Reading:
    """What is the same for all chunks of a file. now: the latest that usage can have been."""

    tenant_id: str
    now: datetime


def excerpt(text: str | bytes) -> str:
    """The beginning of a line as a row can hold it."""
    if isinstance(text, str):
        text = text[: EXCERPT + 1].encode(errors="surrogateescape")
    shown = text[: 4 * EXCERPT].decode(errors="replace").rstrip("\r\n").replace("\x00", "\\0")
    return shown if len(shown) <= EXCERPT else f"{shown[:EXCERPT]}…"


def check_kind(data: bytes) -> None:
    """Raise FileError if the beginning of a file is that of no text, or of no UTF-8."""
    for mark, sentence in _STRANGERS:
        if data.startswith(mark):
            raise FileError(sentence)
    # Behind its first line, a NUL is that line's mistake.
    if b"\x00" in data[:_LOOKED_AT].partition(b"\n")[0]:
        raise FileError(
            "The file is not text, or is UTF-16 without a mark: it holds NUL bytes. Save it as CSV"
            " UTF-8, or convert it with `iconv -f UTF-16LE -t UTF-8`."
        )


def shorten(rest: bytes) -> bytes:
    """The beginning of a line that goes on: no more than is needed to know that it is too long."""
    return rest[: MAX_LINE_BYTES + 1]


def too_long() -> str:
    return f"is longer than {MAX_LINE_BYTES:,} bytes"
