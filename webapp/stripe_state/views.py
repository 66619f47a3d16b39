"""/v1/stripe: where a tenant stands with Stripe, what is stuck, and the shadow beside the live."""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from flask import Blueprint, Response, g, stream_with_context
from sqlalchemy.orm import Session

from metering.catalog.period import Span, calendar_month
from metering.database import after_commit, unit_of_work
from metering.stripe import shadow, standing, stuck
from webapp import csv_export, cursor, runtime, wire
from webapp.catalog.schemas import TenantQuerySchema
from webapp.endpoint import Contract, endpoint
from webapp.extensions import db
from webapp.stripe_state import naming, presenters
from webapp.stripe_state.schemas import (
    RetriedSchema,
    RetrySchema,
    ShadowFileQuerySchema,
    ShadowQuerySchema,
    ShadowReportSchema,
    StripeStatusSchema,
    StuckAnswerSchema,
    StuckQuerySchema,
)

blueprint = Blueprint("stripe_state", __name__, url_prefix="/v1/stripe")

READ, WRITE = "reconciliation:read", "reconciliation:write"
_TAG = "Stripe"


@blueprint.get("/status")
@endpoint(
    Contract(
        summary="Where the tenant stands with Stripe",
        scope=READ,
        query=TenantQuerySchema,
        answer=StripeStatusSchema,
        statuses=(401, 403, 422),
        tag=_TAG,
    )
)
def status(tenant_id: str, query: dict[str, Any]) -> Response:
    """Whether anything is wrong with the money, in a sentence; then what waits, by mode."""
    session = db.session()
    return wire.answer(
        presenters.status(
            standing.overview(session, tenant_id, now=g.now),
            stuck.everything(session, tenant_id),
            standing.uncounted(session, tenant_id),
            g.now,
        )
    )


@blueprint.get("/stuck")
@endpoint(
    Contract(
        summary="List what is stuck",
        scope=READ,
        query=StuckQuerySchema,
        answer=StuckAnswerSchema,
        statuses=(401, 403, 422),
        tag=_TAG,
    )
)
def list_stuck(tenant_id: str, query: dict[str, Any]) -> Response:
    """The largest amount first, each with its reason and the way out."""
    limit = query["limit"]
    every = stuck.everything(
        db.session(), tenant_id, mode=query.get("mode"), kind=query.get("kind")
    )
    after = read_place(query["cursor"]) if "cursor" in query else None
    page = stuck.page(every, after=after, limit=limit + 1)
    last = page[limit - 1] if len(page) > limit else None
    return wire.answer(
        {
            "total": len(every),
            "atStake": presenters.amounts(every),
            "stuck": [presenters.stuck(each) for each in page[:limit]],
            "nextCursor": cursor.write(last.place) if last else None,
        }
    )


@blueprint.post("/retry")
@endpoint(
    Contract(
        summary="Try again what is stuck",
        scope=WRITE,
        body=RetrySchema,
        answer=RetriedSchema,
        statuses=(400, 401, 403, 415, 422),
        tag=_TAG,
    )
)
def retry(tenant_id: str, body: dict[str, Any]) -> Response:
    """Now, and not when it would be tried by itself. Safe to ask twice: nothing is sent twice.
    Pushes in doubt cannot be hurried, and usage that no invoice would bill needs a decision."""
    return wire.answer({"retried": try_again(db.session(), tenant_id, body["id"])})


def try_again(session: Session, tenant_id: str, name: str) -> bool:
    """Try it again, and wake the push job once that is committed."""
    hints = runtime.current().hints
    with unit_of_work(session):
        is_tried = naming.retry(session, tenant_id, name, now=g.now)
        if is_tried:
            after_commit(session, lambda: hints.push(tenant_id))
    return is_tried


@blueprint.get("/shadow-report")
@endpoint(
    Contract(
        summary="Compare live, shadow and local",
        scope=READ,
        query=ShadowQuerySchema,
        answer=ShadowReportSchema,
        statuses=(401, 403, 404, 422),
        tag=_TAG,
    )
)
def report(tenant_id: str, query: dict[str, Any]) -> Response:
    """By customer and metric: what was counted, and what was pushed and confirmed of it in live
    and in test mode."""
    session, limit, month = db.session(), query["limit"], month_of(query.get("period"))
    after = read_row_place(query["cursor"]) if "cursor" in query else None
    rows = shadow.page(session, tenant_id, month, after=after, limit=limit + 1)
    sums, is_complete = shadow.sums(shadow.every(session, tenant_id, month))
    last = rows[limit - 1] if len(rows) > limit else None
    return wire.answer(
        {
            "period": f"{month.start_at:%Y-%m}",
            "sums": [presenters.added_up(each) for each in sums],
            "sumsAreComplete": is_complete,
            "rows": [presenters.compared(row) for row in rows[:limit]],
            "nextCursor": cursor.write(last.place) if last else None,
        }
    )


@blueprint.get("/shadow-report.csv")
@endpoint(
    Contract(
        summary="Download the comparison of live, shadow and local",
        scope=READ,
        query=ShadowFileQuerySchema,
        statuses=(401, 403, 404, 422),
        tag=_TAG,
        media_type="text/csv",
    )
)
def report_csv(tenant_id: str, query: dict[str, Any]) -> Response:
    """All rows as CSV."""
    return csv_of(db.session(), tenant_id, month_of(query.get("period")))


def csv_of(session: Session, tenant_id: str, month: Span) -> Response:
    """The file, read and sent page by page."""
    rows = presenters.csv_rows(shadow.every(session, tenant_id, month))
    lines = csv_export.lines(presenters.CSV_HEADER, rows)
    name = f"shadow-{month.start_at:%Y-%m}.csv"
    return Response(
        stream_with_context(csv_export.closing(session, lines)),
        mimetype="text/csv",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def month_of(text: str | None) -> Span:
    """The month of a `YYYY-MM` that the schema has let through; None: the current one."""
    if text is None:
        return calendar_month(g.now)
    year, _, month = text.partition("-")
    return calendar_month(datetime(int(year), int(month), 1, tzinfo=UTC))


def read_place(text: str) -> stuck.Place:
    """Where a page of what is stuck ended; InvalidInputError if it is none of ours."""
    size, name = cursor.read(text, 2)
    try:
        number = Decimal(size)
    except InvalidOperation:
        raise cursor.refused() from None
    if not number.is_finite() or abs(number.adjusted()) > 200:
        raise cursor.refused()
    return number, name


def read_row_place(text: str) -> shadow.Place:
    """Where a page of the comparison ended; InvalidInputError if it is none of ours."""
    ref, metric, start = cursor.read(text, 3)
    start_at, _ = cursor.read_place(cursor.write((start, "")))
    return ref, metric, start_at
