"""One decorator per JSON endpoint: its scope, its schemas, its place in the OpenAPI document.

The wrapper checks the caller, loads what was sent and finds the tenant, so that no view can
forget the wall; the same declaration is what `/openapi.json` is generated from.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import wraps
from typing import Any, TypeVar, cast

from flask import request
from flask.typing import ResponseReturnValue
from marshmallow import Schema, ValidationError

from webapp import auth
from webapp import body as request_body
from webapp.problems import ProblemError

View = TypeVar("View", bound=Callable[..., ResponseReturnValue])

MAX_REQUEST_KEY = 250
# Beyond, a number of a dozen characters could be written out as gigabytes.
MAX_EXPONENT = 100_000


@dataclass(frozen=True)
class Contract:
    """What an endpoint promises. `scope` None: it is open to everyone, and says why in `why_open`.

    query, body, answer: marshmallow schema classes.  statuses: problem statuses it may answer.
    files: media types of files that may be sent instead of a JSON body.
    needs_tenant: False where nothing of a tenant's is touched; the view then gets no `tenant_id`,
                  and the sandbox's user need not name one.
    has_csv:      `format=csv` in its query makes the answer a file of rows.
    """

    summary: str
    scope: str | None
    query: type[Schema] | None = None
    body: type[Schema] | None = None
    answer: type[Schema] | None = None
    answer_status: int = 200
    statuses: tuple[int, ...] = ()
    tag: str = ""
    why_open: str = ""
    needs_tenant: bool = True
    media_type: str = "application/json"
    has_csv: bool = False
    example: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()


def endpoint(contract: Contract) -> Callable[[View], View]:
    """Bind a view to its contract.

    The view gets `tenant_id` and, where declared, `query` and `body` as loaded dicts. A contract
    with a body of its own parser (ingest) declares `body` for the document only and takes
    `raw=True` by having no `tenant_id` in that schema.
    """

    query = contract.query() if contract.query is not None else None
    body = contract.body() if contract.body is not None else None

    def bind(view: View) -> View:
        @wraps(view)
        def guarded(**path: Any) -> ResponseReturnValue:
            if contract.scope is not None:
                check_scope(contract.scope)
            loaded: dict[str, Any] = {}
            if query is not None:
                loaded["query"] = load(query, query_arguments())
            else:
                refuse_query()
            if body is not None:
                loaded["body"] = load(body, read_json())
            if contract.scope is not None:
                named = [part.pop("tenant_id") for part in loaded.values() if "tenant_id" in part]
                for other in named[1:]:
                    auth.tenant(other)
                if contract.needs_tenant:
                    loaded["tenant_id"] = auth.tenant(named[0] if named else None)
                elif named:
                    auth.tenant(named[0])
            return view(**path, **loaded)

        declare(guarded, contract)
        return cast("View", guarded)

    return bind


def declare(view: Callable[..., Any], contract: Contract) -> None:
    """Attach a contract to a view that loads its request itself."""
    view.contract = contract  # type: ignore[attr-defined]


def check_scope(scope: str) -> None:
    """Raise ProblemError 403 unless the caller has the scope."""
    if not auth.principal().may(scope):
        raise ProblemError(403, f"This key lacks the scope {scope}.")


def read_json() -> dict[str, Any]:
    """The request's JSON object; ProblemError 415, 413 or 400 if there is none to read.

    A name given twice is refused: one of the two would be dropped without a word. Numbers with a
    fraction are Decimals: a float would have lost digits before anyone looked.
    """
    text = request_body.read(request)
    try:
        body = json.loads(
            text, object_pairs_hook=_distinct, parse_constant=_no_constant, parse_float=_exact
        )
    except RecursionError:
        raise ProblemError(400, "The body is nested too deeply to be read.") from None
    except ValueError as error:
        raise ProblemError(400, f"The body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise ProblemError(400, "The body is not a JSON object.")
    return body


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return members


def _exact(digits: str) -> Decimal:
    """Digit by digit: as a float, a price of 0.1 would be another number."""
    try:
        number = Decimal(digits)
    except InvalidOperation:
        raise ValueError(f"{digits[:40]} is out of range") from None
    if abs(number.adjusted()) > MAX_EXPONENT:
        raise ValueError(f"{digits[:40]} is out of range")
    return number


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def request_key() -> str | None:
    """The `Idempotency-Key` header; ProblemError 422 if it cannot name a request."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_REQUEST_KEY or not key.isprintable():
        raise ProblemError(
            422,
            f"The Idempotency-Key header must be 1 to {MAX_REQUEST_KEY} printable characters.",
            errors=[("/Idempotency-Key", "is not usable")],
        )
    return key


def refuse_query() -> None:
    """Raise ProblemError 422 for a query where none is expected: it would be ignored."""
    for name in request.args:
        raise ProblemError(
            422, f"{name}: unknown field", errors=[(f"/{name}", "is not expected in the query")]
        )


def query_arguments() -> dict[str, str]:
    """The query as a dict; a name given twice is refused, for one of the two would be ignored."""
    twice = [name for name, values in request.args.lists() if len(values) > 1]
    if twice:
        raise ProblemError(
            422,
            f"{twice[0]} is given twice.",
            errors=[(f"/{twice[0]}", "is given twice")],
        )
    return request.args.to_dict()


def load(schema: Schema, data: Any) -> dict[str, Any]:
    """What the schema makes of the data; ProblemError 422 naming all that is wrong with it."""
    try:
        return cast("dict[str, Any]", schema.load(data))
    except ValidationError as error:
        errors = list(flatten(error.messages))
        raise ProblemError(
            422, "; ".join(f"{p.lstrip('/')}: {m}" for p, m in errors), errors=errors
        ) from None


def flatten(messages: Any, pointer: str = "") -> list[tuple[str, str]]:
    """marshmallow's nested messages as (JSON pointer, message) pairs."""
    if isinstance(messages, dict):
        return [
            pair
            for name, inner in messages.items()
            for pair in flatten(inner, pointer if name == "_schema" else f"{pointer}/{name}")
        ]
    return [(pointer or "/", _sentence(str(message))) for message in messages]


def _sentence(message: str) -> str:
    """marshmallow's own messages in the house's form: no capital, no full stop."""
    return message[:1].lower() + message[1:].rstrip(".")
