"""A request's body: its type, its size, and what gzip made of it."""

import zlib

from flask import Request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from webapp.problems import ProblemError

MAX_BODY_BYTES = 8 * 1024 * 1024
_GZIP = 16 + zlib.MAX_WBITS


def read(request: Request) -> bytes:
    """The decoded JSON body, at most 8 MiB before and after gunzip.

    Raises: ProblemError 415 for another type or encoding, 413 for too much, 400 for broken gzip.
    """
    if not request.is_json:
        raise ProblemError(415, "Send a JSON body with Content-Type: application/json.")
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise ProblemError(
            415, "Only gzip is understood as Content-Encoding.", headers={"Accept-Encoding": "gzip"}
        )
    body = read_raw(request, MAX_BODY_BYTES)
    return body if encoding == "identity" else _gunzip(body)


def read_raw(request: Request, most: int) -> bytes:
    """The body as it was sent, whatever its type, at most so many bytes.

    Raises: ProblemError 413 for too much, 400 for a body that breaks off.
    """
    # One byte more than allowed: of a body without an announced length, Werkzeug hands out as much
    # as its limit allows and says nothing of the rest.
    request.max_content_length = most + 1
    try:
        body = request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise _too_large(most) from None
    except ClientDisconnected:
        raise ProblemError(400, "The body ended before its announced length.") from None
    if len(body) > most:
        raise _too_large(most)
    return body


def _gunzip(body: bytes) -> bytes:
    inflater = zlib.decompressobj(wbits=_GZIP)
    try:
        # One byte more than allowed is enough to know, however far the rest would inflate.
        text = inflater.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise ProblemError(400, f"The body is not gzip: {error}") from None
    if len(text) > MAX_BODY_BYTES:
        raise _too_large(MAX_BODY_BYTES)
    if not inflater.eof or inflater.unused_data:
        raise ProblemError(400, "The body is not one whole gzip stream.")
    return text


def _too_large(most: int) -> ProblemError:
    return ProblemError(
        413,
        f"The body is larger than {most // 1024 // 1024} MiB. Nothing of it was stored; send less"
        " at once.",
    )
