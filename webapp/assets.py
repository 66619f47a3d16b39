"""Static files under names that change with their content, so that browsers may keep them."""

import hashlib
from functools import cache
from pathlib import Path

from flask import Flask, Response, request, url_for

STATIC = Path(__file__).parent / "static"
A_YEAR = 31_536_000


@cache
def fingerprint(filename: str) -> str:
    """The first 12 hex digits of the file's SHA-256; FileNotFoundError if there is none."""
    return hashlib.sha256((STATIC / filename).read_bytes()).hexdigest()[:12]


def asset_url(filename: str) -> str:
    """The file's address; it changes when the file does."""
    return url_for("static", filename=filename, v=fingerprint(filename))


def install(app: Flask) -> None:
    """Offer `asset_url` to templates, and let what is asked for by fingerprint be kept."""
    app.jinja_env.globals["asset_url"] = asset_url

    @app.after_request
    def keep(response: Response) -> Response:
        if request.endpoint == "static" and response.status_code == 200:
            filename = (request.view_args or {}).get("filename", "")
            if request.args.get("v") == fingerprint(filename):
                response.headers["Cache-Control"] = f"public, max-age={A_YEAR}, immutable"
        return response
