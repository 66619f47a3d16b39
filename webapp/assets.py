"""Static files under names that change with their content, so that browsers may keep them."""

import gzip
import hashlib
import posixpath
from functools import cache
from pathlib import Path

from flask import Flask, Response, request, send_from_directory, url_for

STATIC = Path(__file__).parent / "static"
A_YEAR = 31_536_000


@cache
def fingerprint(filename: str) -> str:
    """The first 12 hex digits of the file's SHA-256; FileNotFoundError if there is none."""
    return hashlib.sha256((STATIC / filename).read_bytes()).hexdigest()[:12]


def asset_url(filename: str) -> str:
    """The file's address; it changes when the file does."""
    return url_for("static", filename=filename, v=fingerprint(filename))


def sent(filename: str) -> Response:
    """The file itself, whatever address it is asked for by."""
    return squeezed(send_from_directory(STATIC, filename), filename)


# Where it saves something; pictures are small already.
_SQUEEZED = (".css", ".js", ".svg")


@cache
def _gzipped(filename: str) -> bytes:
    """Made once for each process: the files change with a release only."""
    return gzip.compress((STATIC / filename).read_bytes(), mtime=0)


def squeezed(response: Response, filename: str) -> Response:
    """The file's answer for who reads gzip; a script is a third of its size."""
    if response.status_code != 200 or not filename.endswith(_SQUEEZED):
        return response
    response.vary.add("Accept-Encoding")
    if not request.accept_encodings.quality("gzip"):
        return response
    tag, _ = response.get_etag()
    response.close()  # the file that would have been read
    response.direct_passthrough = False
    response.set_data(_gzipped(filename))
    response.headers["Content-Encoding"] = "gzip"
    if tag is not None:
        # The same content, byte for byte only after unpacking.
        response.set_etag(tag, weak=True)
    return response


def install(app: Flask) -> None:
    """Offer `asset_url` to templates, and let what is asked for by fingerprint be kept."""
    app.jinja_env.globals["asset_url"] = asset_url

    @app.after_request
    def keep(response: Response) -> Response:
        if request.endpoint == "static" and response.status_code == 200:
            # A file has many spellings (`./a.css`, `b/../a.css`): what is kept of it is kept once.
            filename = posixpath.normpath((request.view_args or {}).get("filename", ""))
            if request.args.get("v") == fingerprint(filename):
                response.headers["Cache-Control"] = f"public, max-age={A_YEAR}, immutable"
            squeezed(response, filename)
        return response
