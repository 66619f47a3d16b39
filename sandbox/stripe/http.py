"""Requests and answers on the wire: nested forms, JSON, and what never leaves the stand-in."""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from sandbox.stripe.core import Json, StripeError

_ENCODER = msgspec.json.Encoder(decimal_format="number")
_PARTS = re.compile(r"\[([^\[\]]*)\]")


@dataclass(frozen=True)
class Answer:
    """What goes back. `headers` without those that belong to the connection."""

    status: int
    headers: dict[str, str]
    body: bytes


class NoAnswer(Exception):  # noqa: N818
    """The connection ends without an answer. after_seconds: how long the caller hangs first."""

    def __init__(self, after_seconds: float = 0.0) -> None:
        super().__init__("the connection was dropped")
        self.after_seconds = after_seconds


def encode(value: Any) -> bytes:
    return _ENCODER.encode(value)


def public(value: Any) -> Any:
    """The value without our own members, whose names begin with an underscore; a copy."""
    if isinstance(value, dict):
        return {k: public(v) for k, v in value.items() if not k.startswith("_")}
    if isinstance(value, list):
        return [public(each) for each in value]
    return value


def split(target: str) -> tuple[str, str]:
    path, _, query = target.partition("?")
    return unquote(path), query


def params(path: str, query: str, headers: Mapping[str, str], body: bytes) -> Json:
    """The parameters of a request: the query's and the body's, nested. `headers` in lower case.

    Raises: StripeError for a body that is no UTF-8, no JSON object or no sensible nesting.
    """
    nested = form(query)
    if not body:
        return nested
    if headers.get("content-type", "").startswith("application/json"):
        return nested | _json(body)
    try:
        return nested | form(body.decode())
    except UnicodeDecodeError:
        raise StripeError(400, "Invalid form encoding.") from None


def form(text: str) -> Json:
    """Nest `a[b]=1&c[0][d]=2&e[]=3` as Stripe does; every value stays a text."""
    nested: Json = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        head, bracket, _ = name.partition("[")
        if not bracket:
            nested[name] = value
            continue
        _place(nested, [head, *_PARTS.findall(name)], value)
    return {name: _listed(value) for name, value in nested.items()}


def _place(nested: Json, parts: list[str], value: str) -> None:
    here: Json = nested
    for part in parts[:-1]:
        inner = here.setdefault(part, {})
        if not isinstance(inner, dict):
            raise StripeError(400, f"Invalid nesting: {'.'.join(parts)}", param=parts[0])
        here = inner
    last = parts[-1] or str(len(here))
    here[last] = value


def _listed(value: Any) -> Any:
    """A mapping whose keys are all numbers is a list."""
    if not isinstance(value, dict):
        return value
    inner = {key: _listed(each) for key, each in value.items()}
    if inner and all(key.isascii() and key.isdigit() for key in inner):
        return [inner[key] for key in sorted(inner, key=int)]
    return inner


def _json(body: bytes) -> Json:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError:
        raise StripeError(400, "The request body is not a JSON object.") from None


def bearer(headers: Mapping[str, str]) -> str | None:
    """The key a request came with: as a bearer, or as the name of basic authorization."""
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip() or None
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest).decode().partition(":")[0] or None
        except (binascii.Error, UnicodeDecodeError):
            return None
    return None


def error_body(error: StripeError, request_id: str, *, v2: bool) -> Json:
    if v2:
        shown = {"code": error.code or error.type, "message": error.message, "type": error.type}
        return {"error": shown}
    inner: Json = {"message": error.message, "type": error.type, "request_log_url": None}
    inner["request_log_url"] = f"https://dashboard.stripe.com/logs/{request_id}"
    if error.code is not None:
        inner["code"] = error.code
        inner["doc_url"] = f"https://docs.stripe.com/error-codes/{error.code.replace('_', '-')}"
    if error.param is not None:
        inner["param"] = error.param
    return {"error": inner}
