"""A file of any size as it comes in: never more of it in memory than is asked for."""

import zlib
from collections.abc import Iterator
from typing import IO

from flask import Request
from werkzeug.exceptions import ClientDisconnected

from webapp.auth import FILE_TYPES
from webapp.problems import ProblemError

_PIECE = 64 * 1024
_GZIP = 16 + zlib.MAX_WBITS
# Werkzeug takes no length for the app's usual one.
_UNBOUNDED = 2**62
_ENDED = "The connection ended before the file did."


class BrokenError(Exception):
    """The stream ended before its end, or is not what it says."""


class Source:
    """Pieces of any length, read in the lengths that the reader asks for.

    broken: why the stream ended too early, once it has.
    """

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._buffer = pieces, bytearray()
        self.broken: str | None = None

    def read(self, size: int) -> bytes:
        """So many bytes; fewer only where the stream ends."""
        while len(self._buffer) < size and self.broken is None:
            try:
                piece = next(self._pieces, None)
            except BrokenError as error:
                self.broken = str(error)
                break
            if piece is None:
                break
            self._buffer += piece
        taken = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return taken


def format_of(request: Request) -> str:
    """csv or ndjson, by the request's type. Raises ProblemError 415."""
    if request.mimetype not in FILE_TYPES:
        raise ProblemError(
            415,
            "Send a file as text/csv or application/x-ndjson, or events as application/json.",
        )
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if charset not in ("utf-8", "utf8", "us-ascii"):
        raise ProblemError(415, f"Send the file as UTF-8, not as {charset[:40]}.")
    return "csv" if request.mimetype == "text/csv" else "ndjson"


def of_request(request: Request) -> Source:
    """The request's body, unpacked. Raises ProblemError 415 for another encoding than gzip."""
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise ProblemError(
            415, "Only gzip is understood as Content-Encoding.", headers={"Accept-Encoding": "gzip"}
        )
    request.max_content_length = _UNBOUNDED
    pieces = _pieces(request.stream, request.content_length)
    return Source(pieces if encoding == "identity" else gunzip(pieces))


def of_file(file: IO[bytes]) -> Iterator[bytes]:
    """A file's pieces."""
    while piece := file.read(_PIECE):
        yield piece


def _pieces(stream: IO[bytes], announced: int | None) -> Iterator[bytes]:
    """The body as it was sent. announced: its length, unless it is sent in chunks.

    Not every server says that a connection ended before the body did: some let the body just end.
    """
    count = 0
    try:
        for piece in of_file(stream):
            count += len(piece)
            yield piece
    except (ClientDisconnected, OSError):
        raise BrokenError(_ENDED) from None
    if announced is not None and count < announced:
        raise BrokenError(_ENDED)


def gunzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Unpack, however far it goes, a piece at a time; also several streams behind each other.

    Raises: BrokenError for what is not gzip, and for a stream that stops in its middle.
    """
    inflater, is_fresh = zlib.decompressobj(wbits=_GZIP), True
    for piece in pieces:
        rest = piece
        while rest:
            is_fresh = False
            try:
                text = inflater.decompress(rest, _PIECE)
            except zlib.error as error:
                raise BrokenError(f"The body is not gzip: {error}.") from None
            if text:
                yield text
            rest = inflater.unconsumed_tail
            if inflater.eof:
                rest = inflater.unused_data
                inflater, is_fresh = zlib.decompressobj(wbits=_GZIP), True
    # What fits no output buffer stays inside until it is asked for.
    while text := _flushed(inflater):
        yield text
    if not (is_fresh or inflater.eof):
        raise BrokenError("The gzip stream ends before its end.")


def _flushed(inflater: "zlib._Decompress") -> bytes:
    return b"" if inflater.eof else inflater.decompress(b"", _PIECE)
