"""/v1/events/backfill: past usage as files of any size, kept first and read by a job."""

import re
from typing import Any

from flask import Blueprint, Response, g, request, stream_with_context
from sqlalchemy.orm import Session

from metering.database import unit_of_work
from metering.errors import InvalidInputError, NotFoundError
from metering.ledger import backfills, uploads
from metering.ledger.models import Backfill
from webapp import auth, csv_export, cursor, runtime, wire
from webapp.backfill import given, presenters, spool, stream
from webapp.backfill.given import Given
from webapp.backfill.schemas import (
    BackfillsAnswerSchema,
    BackfillSchema,
    BackfillsQuerySchema,
    ContinuedQuerySchema,
    ErrorsAnswerSchema,
    ErrorsQuerySchema,
    NewBackfillSchema,
    UploadQuerySchema,
)
from webapp.catalog.schemas import TenantQuerySchema
from webapp.endpoint import Contract, check_scope, declare, endpoint
from webapp.extensions import db
from webapp.problems import ProblemError
from webapp.simulations import repetition

blueprint = Blueprint("backfill", __name__, url_prefix="/v1/events/backfill")

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FILES = ("text/csv", "application/x-ndjson")


@blueprint.post("")
def receive() -> Response:
    """Send a file as text/csv or application/x-ndjson, of any size, also with Content-Encoding:
    gzip; or events as JSON. It is kept as it comes and read by a job: ask for its id until it is
    `done`. Sending the same file again imports nothing twice. Where the connection breaks, nothing
    is read; go on by PUT, or send the file again, best under the same Idempotency-Key."""
    check_scope("events:write")
    asked = given.read()
    session = db.session()
    found, is_new = _begin(session, asked)
    if not is_new:
        if found.state not in uploads.RECEIVING:
            return _answer(session, found)
        spool.pass_over(session, found, asked.source)
    return _kept(session, found, asked.source)


declare(
    receive,
    Contract(
        summary="Import past usage from a file",
        scope="events:write",
        query=UploadQuerySchema,
        body=NewBackfillSchema,
        files=_FILES,
        answer=BackfillSchema,
        answer_status=202,
        statuses=(400, 401, 403, 409, 413, 415, 422, 503),
        tag="Backfill",
        headers={"Idempotency-Key": "a repetition continues, and is answered with, the first one"},
    ),
)


_SAME_AGAIN = ": reason, late, fileName and the type must be those of the first time, too"


def _begin(session: Session, asked: Given) -> tuple[Backfill, bool]:
    wanted = asked.wanted
    said = {"format": wanted.format, "reason": wanted.reason, "late": wanted.late,
            "file": wanted.file_name, "sha256": asked.digest}  # fmt: skip
    with unit_of_work(session):
        auth.ensure_tenant(session, asked.tenant_id)
        made = repetition.claim(
            session, asked.tenant_id, "backfill", said, now=g.now, advice=_SAME_AGAIN
        )
        if made.is_new:
            uploads.create(
                session,
                asked.tenant_id,
                wanted,
                actor=auth.principal().actor,
                now=g.now,
                backfill_id=made.id,
            )
    return uploads.get(session, asked.tenant_id, made.id), made.is_new


@blueprint.put("/<backfill_id>")
@endpoint(
    Contract(
        summary="Continue a file that broke off",
        scope="events:write",
        query=ContinuedQuerySchema,
        files=_FILES,
        answer=BackfillSchema,
        answer_status=202,
        statuses=(400, 401, 403, 404, 409, 415, 422, 503),
        tag="Backfill",
    )
)
def go_on(backfill_id: str, tenant_id: str, query: dict[str, Any]) -> Response:
    """Send the rest of the file, from its byte `offset` on; with another offset than `totalBytes`
    the answer is 409 and names the right one."""
    session = db.session()
    with unit_of_work(session):
        found = uploads.open_at(
            session, tenant_id, _checked(backfill_id), query["offset"], now=g.now
        )
        if found.format != stream.format_of(request):
            raise InvalidInputError(f"this file was begun as {found.format}")
    return _kept(session, uploads.get(session, tenant_id, backfill_id), stream.of_request(request))


def _kept(session: Session, found: Backfill, source: stream.Source) -> Response:
    """Keep the rest of the file and answer what is then known of it."""
    tenant_id, backfill_id = found.tenant_id, found.backfill_id
    current = runtime.current()
    why = spool.keep(
        session,
        found,
        source,
        clock=current.clock,
        whole=lambda: current.hints.read_backfill(tenant_id, backfill_id),
    )
    found = uploads.get(session, tenant_id, backfill_id)
    if why is not None:
        raise ProblemError(
            400,
            f"{why} {found.error or ''} Its id is {backfill_id}.",
            headers={"Location": _address(found)},
        )
    return _answer(session, found)


@blueprint.get("")
@endpoint(
    Contract(
        summary="List backfills",
        scope="events:read",
        query=BackfillsQuerySchema,
        answer=BackfillsAnswerSchema,
        statuses=(401, 403, 422),
        tag="Backfill",
    )
)
def list_backfills(tenant_id: str, query: dict[str, Any]) -> Response:
    """The newest first, without their errors."""
    after = cursor.read_place(query["cursor"]) if "cursor" in query else None
    limit = query["limit"]
    found = backfills.listed(db.session(), tenant_id, after=after, limit=limit + 1)
    last = found[limit - 1] if len(found) > limit else None
    return wire.answer(
        {
            "backfills": [presenters.listed(each) for each in found[:limit]],
            "nextCursor": cursor.write((last.created_at, last.backfill_id)) if last else None,
        }
    )


@blueprint.get("/<backfill_id>")
@endpoint(
    Contract(
        summary="Read a backfill's progress",
        scope="events:read",
        query=TenantQuerySchema,
        answer=BackfillSchema,
        statuses=(401, 403, 404, 422),
        tag="Backfill",
    )
)
def read(backfill_id: str, tenant_id: str, query: dict[str, Any]) -> Response:
    """How far it is, and the first 100 lines that were refused."""
    session = db.session()
    return wire.answer(
        presenters.whole(session, uploads.get(session, tenant_id, _checked(backfill_id)))
    )


@blueprint.get("/<backfill_id>/errors")
@endpoint(
    Contract(
        summary="Read the lines that were refused",
        scope="events:read",
        query=ErrorsQuerySchema,
        answer=ErrorsAnswerSchema,
        statuses=(401, 403, 404, 422),
        tag="Backfill",
    )
)
def list_errors(backfill_id: str, tenant_id: str, query: dict[str, Any]) -> Response:
    """By line, page by page; with `format=csv` all of them as a file."""
    session, limit = db.session(), query["limit"]
    uploads.get(session, tenant_id, _checked(backfill_id))
    if query["format"] == "csv":
        return _csv(session, tenant_id, backfill_id)
    after = _line(query["cursor"]) if "cursor" in query else 0
    found = backfills.errors(session, tenant_id, backfill_id, after_line=after, limit=limit + 1)
    last = found[limit - 1].line if len(found) > limit else None
    return wire.answer(
        {
            "errors": [presenters.error(each) for each in found[:limit]],
            "nextCursor": cursor.write((last,)) if last else None,
        }
    )


def _csv(session: Session, tenant_id: str, backfill_id: str) -> Response:
    rows = map(presenters.csv_row, backfills.every_error(session, tenant_id, backfill_id))
    lines = csv_export.closing(session, csv_export.lines(presenters.CSV_HEADER, rows))
    name = f"backfill-{backfill_id}-errors.csv"
    return Response(
        stream_with_context(lines),
        mimetype="text/csv",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _answer(session: Session, found: Backfill) -> Response:
    return wire.answer(presenters.whole(session, found), 202, {"Location": _address(found)})


def _address(found: Backfill) -> str:
    return f"{blueprint.url_prefix}/{found.backfill_id}"


def _checked(backfill_id: str) -> str:
    if not _ID.fullmatch(backfill_id):
        raise NotFoundError("there is no such backfill")
    return backfill_id


def _line(text: str) -> int:
    (line,) = cursor.read(text, 1)
    if not (line.isascii() and line.isdigit() and len(line) <= 18):
        raise cursor.refused()
    return int(line)
