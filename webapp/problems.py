"""Refusals as RFC 9457 problem documents. The one table from the core's kinds to statuses."""

import logging
import traceback
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, g, request
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.exceptions import HTTPException

from metering.database import sqlstate
from metering.errors import (
    ConflictError,
    DomainError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
)
from pricing import PricingError
from webapp import wire

log = logging.getLogger(__name__)

STATUS_OF: dict[type[DomainError], int] = {
    InvalidInputError: 422,
    ForbiddenError: 403,
    NotFoundError: 404,
    ConflictError: 409,
}
# What another try may well mend: a lost or refused connection, a restart, a full pool, a
# deadlock, a lock or statement that took too long.
_PASSING = ("08", "57", "53", "40", "55")


class ProblemError(Exception):
    """A refusal of the edge itself, by status.

    errors: (JSON pointer, message) for each part of the request that is wrong.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Iterable[tuple[str, str]] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = list(errors)
        self.headers = headers or {}


def document(
    status: int,
    detail: str,
    *,
    errors: Iterable[tuple[str, str]] = (),
    headers: dict[str, str] | None = None,
) -> Response:
    """Build `application/problem+json`."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": _clean(detail),
        "requestId": g.get("request_id"),
    }
    listed = [{"pointer": _clean(at), "message": _clean(text)} for at, text in errors]
    if listed:
        body["errors"] = listed
    response = wire.answer(body, status, headers)
    response.mimetype = "application/problem+json"
    return response


def _log_database_error(error: DBAPIError | PoolTimeoutError) -> None:
    """Say what and where, but not the whole text: its DETAIL may quote a row, meta and all."""
    origin = getattr(error, "orig", None) or error
    diagnosis = getattr(origin, "diag", None)
    log.error(
        "database error",
        extra={
            "kind": type(origin).__name__,
            "sqlstate": getattr(origin, "sqlstate", None),
            "reason": getattr(diagnosis, "message_primary", None) or str(origin).partition("\n")[0],
            "stack": "".join(traceback.format_tb(error.__traceback__)),
        },
    )


def _clean(text: str) -> str:
    """What was sent may be quoted, and may hold a lone surrogate, which no answer can."""
    return text.encode(errors="replace").decode()


def install(app: Flask) -> None:
    """Let every error of a request end as a problem document, never as an HTML page."""

    @app.errorhandler(ProblemError)
    def of_edge(error: ProblemError) -> Response:
        return document(error.status, error.detail, errors=error.errors, headers=error.headers)

    @app.errorhandler(DomainError)
    def of_domain(error: DomainError) -> Response:
        status = next(code for kind, code in STATUS_OF.items() if isinstance(error, kind))
        errors = [(error.pointer, error.message)] if error.pointer else []
        return document(status, error.message, errors=errors)

    @app.errorhandler(PricingError)
    def of_pricing(error: PricingError) -> Response:
        return document(422, str(error), errors=[(f"/{error.field}", error.reason)])

    @app.errorhandler(HTTPException)
    def of_http(error: HTTPException) -> Response:
        headers = {}
        if error.code == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = sorted(getattr(error, "valid_methods", None) or [])
            headers["Allow"] = ", ".join(allowed)
        detail = error.description or ""
        if error.code == HTTPStatus.NOT_FOUND:
            detail = f"There is nothing at {request.path}; /docs lists what there is."
        return document(error.code or 500, detail, headers=headers)

    @app.errorhandler(PoolTimeoutError)
    @app.errorhandler(DBAPIError)
    def of_database(error: DBAPIError | PoolTimeoutError) -> Response:
        passing = (
            isinstance(error, PoolTimeoutError)
            or (isinstance(error, OperationalError) and not sqlstate(error))
            or sqlstate(error)[:2] in _PASSING
        )
        _log_database_error(error)
        if passing:
            return document(
                503,
                "The database cannot be reached just now. Nothing was lost that was answered"
                " with 200; send this request again.",
                headers={"Retry-After": "1"},
            )
        return document(500, "The request failed on our side; it is logged under its requestId.")

    @app.errorhandler(Exception)
    def of_anything(error: Exception) -> Response:
        log.error("unexpected error", exc_info=error)
        return document(500, "The request failed on our side; it is logged under its requestId.")
