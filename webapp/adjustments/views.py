"""/v1/adjustments: what people decide about usage that no counter tells."""

from collections.abc import Callable
from typing import Any

import msgspec
from flask import Blueprint, Response, g, stream_with_context
from sqlalchemy.orm import Session

from metering.billing import at_stake
from metering.catalog import metrics
from metering.counters import adjustments, deciding
from metering.counters.adjustments import Filter, Wanted
from metering.counters.models import Adjustment
from metering.database import unit_of_work
from metering.errors import NotFoundError
from metering.ledger import requests
from webapp import auth, csv_export, cursor, wire
from webapp.adjustments import presenters
from webapp.adjustments.schemas import (
    AdjustmentDetailSchema,
    AdjustmentsAnswerSchema,
    AdjustmentSchema,
    AdjustmentsQuerySchema,
    ApprovalSchema,
    DecisionSchema,
    EventsOfAdjustmentQuerySchema,
    EventsOfAdjustmentSchema,
    NewAdjustmentSchema,
)
from webapp.catalog.schemas import TenantQuerySchema
from webapp.endpoint import Contract, endpoint, request_key
from webapp.extensions import db

blueprint = Blueprint("adjustments", __name__, url_prefix="/v1/adjustments")

READ, WRITE = "adjustments:read", "adjustments:write"
OPERATION = "create-adjustment"
FIRST_EVENTS = 100
_TAG = "Adjustments"


@blueprint.get("")
@endpoint(
    Contract(
        summary="List adjustments",
        scope=READ,
        query=AdjustmentsQuerySchema,
        answer=AdjustmentsAnswerSchema,
        statuses=(401, 403, 422),
        tag=_TAG,
        has_csv=True,
    )
)
def list_adjustments(tenant_id: str, query: dict[str, Any]) -> Response:
    """The latest first. Those that wait for a decision are `pending`."""
    session, limit = db.session(), query.pop("limit")
    after = query.pop("cursor", None)
    is_file = query.pop("format") == "csv"
    wanted = Filter(**query, limit=limit, after=cursor.read_place(after) if after else None)
    if is_file:
        return csv_of(session, tenant_id, wanted)
    found = adjustments.page(session, tenant_id, wanted)
    page, last = found[:limit], found[limit - 1] if len(found) > limit else None
    return wire.answer(
        {
            "adjustments": presenters.listed(session, tenant_id, page, g.now),
            "nextCursor": cursor.write((last.created_at, last.adjustment_id)) if last else None,
        }
    )


def csv_of(session: Session, tenant_id: str, wanted: Filter) -> Response:
    """The file, read and sent page by page."""
    pages = adjustments.every(session, tenant_id, wanted)
    rows = presenters.csv_rows(session, tenant_id, pages, g.now)
    lines = csv_export.lines(presenters.CSV_HEADER, rows)
    return Response(
        stream_with_context(csv_export.closing(session, lines)),
        mimetype="text/csv",
        headers={"Content-Disposition": 'attachment; filename="adjustments.csv"'},
    )


@blueprint.post("")
@endpoint(
    Contract(
        summary="Propose a delta",
        scope=WRITE,
        body=NewAdjustmentSchema,
        answer=AdjustmentSchema,
        answer_status=201,
        statuses=(400, 401, 403, 404, 409, 415, 422),
        tag=_TAG,
        headers={"Idempotency-Key": "a repetition answers with the adjustment that was made"},
    )
)
def create_adjustment(tenant_id: str, body: dict[str, Any]) -> Response:
    """A number of units for one customer's metric, in the billing period that holds `periodStart`.
    It is pending, and changes nothing until it is approved."""
    named, actor = request_key(), auth.principal().actor
    said = msgspec.json.encode(body, order="sorted")
    wanted = Wanted(
        customer_ref=body["customer_ref"],
        metric=body["metric"],
        delta=body["delta"],
        reason=body["reason"],
        instant=body.get("period_start"),
        note=body.get("note"),
    )
    with unit_of_work(db.session()) as session:
        auth.ensure_tenant(session, tenant_id)
        made_id = adjustments.id_of(named)
        if named is None or requests.claim(session, tenant_id, OPERATION, named, said, now=g.now):
            made = adjustments.create(session, tenant_id, made_id, wanted, actor=actor, now=g.now)
        else:
            made = adjustments.get(session, tenant_id, made_id)
        answer = _presented(session, tenant_id, made)
    return wire.answer(answer, 201)


@blueprint.get("/<adjustment_id>")
@endpoint(
    Contract(
        summary="Read an adjustment, with its effect",
        scope=READ,
        query=TenantQuerySchema,
        answer=AdjustmentDetailSchema,
        statuses=(401, 403, 404, 422),
        tag=_TAG,
    )
)
def read_adjustment(adjustment_id: str, tenant_id: str, query: dict[str, Any]) -> Response:
    """What it does or would do to the total and to the money of its own period, and of the current
    one if it is carried forward; its first events; what was done to it."""
    session = db.session()
    found = adjustments.get(session, tenant_id, checked(adjustment_id))
    decision = at_stake.of(session, tenant_id, found, now=g.now)
    steps = adjustments.steps(session, tenant_id, found.adjustment_id)
    aggregation = metrics.get(session, tenant_id, found.metric).aggregation
    events, more = _events(session, tenant_id, found.adjustment_id, "", FIRST_EVENTS)
    return wire.answer(
        _presented(session, tenant_id, found)
        | presenters.detail(aggregation, decision, steps)
        | {"firstEvents": events, "nextEventsCursor": more}
    )


@blueprint.get("/<adjustment_id>/events")
@endpoint(
    Contract(
        summary="List an adjustment's events",
        scope=READ,
        query=EventsOfAdjustmentQuerySchema,
        answer=EventsOfAdjustmentSchema,
        statuses=(401, 403, 404, 422),
        tag=_TAG,
    )
)
def list_events(adjustment_id: str, tenant_id: str, query: dict[str, Any]) -> Response:
    """The set-aside events that it decides about, by id; a delta has none."""
    session = db.session()
    found = adjustments.get(session, tenant_id, checked(adjustment_id))
    after = cursor.read(query["cursor"], 1)[0] if "cursor" in query else ""
    events, more = _events(session, tenant_id, found.adjustment_id, after, query["limit"])
    return wire.answer({"events": events, "nextCursor": more})


def _decision(summary: str, body: type[DecisionSchema] = DecisionSchema) -> Contract:
    return Contract(
        summary=summary,
        scope=WRITE,
        body=body,
        answer=AdjustmentSchema,
        statuses=(400, 401, 403, 404, 409, 415, 422),
        tag=_TAG,
    )


@blueprint.post("/<adjustment_id>/approve")
@endpoint(_decision("Approve an adjustment", ApprovalSchema))
def approve(adjustment_id: str, tenant_id: str, body: dict[str, Any]) -> Response:
    """Decide that it counts, or how else it is settled. One that was declined or reverted may be
    approved after all. 409 where it is approved already, where the period's invoice is final and
    it is to be applied all the same, and where a total would become less than nothing."""
    return _decide(deciding.approve, tenant_id, adjustment_id, body)


@blueprint.post("/<adjustment_id>/decline")
@endpoint(_decision("Decline an adjustment"))
def decline(adjustment_id: str, tenant_id: str, body: dict[str, Any]) -> Response:
    """Decide that it does not count. 409 unless it is pending."""
    return _decide(deciding.decline, tenant_id, adjustment_id, body)


@blueprint.post("/<adjustment_id>/revert")
@endpoint(_decision("Revert an approval"))
def revert(adjustment_id: str, tenant_id: str, body: dict[str, Any]) -> Response:
    """Take an approval back, exactly once: 409 unless it is approved."""
    return _decide(deciding.revert, tenant_id, adjustment_id, body)


def _decide(
    take: Callable[..., Adjustment], tenant_id: str, adjustment_id: str, body: dict[str, Any]
) -> Response:
    """Pushes follow by themselves: whoever changes a total marks it unsent."""
    with unit_of_work(db.session()) as session:
        decided = take(
            session,
            tenant_id,
            checked(adjustment_id),
            actor=auth.principal().actor,
            now=g.now,
            **body,
        )
        answer = _presented(session, tenant_id, decided)
    return wire.answer(answer)


def _presented(session: Session, tenant_id: str, one: Adjustment) -> dict[str, Any]:
    return presenters.listed(session, tenant_id, [one], g.now)[0]


def _events(
    session: Session, tenant_id: str, adjustment_id: str, after: str, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """A page of events, and the cursor of the next."""
    rows = adjustments.events_of(session, tenant_id, adjustment_id, after=after, limit=limit + 1)
    page = rows[:limit]
    more = cursor.write((page[-1].idempotency_key,)) if len(rows) > limit else None
    return presenters.events_of(session, tenant_id, page), more


def checked(adjustment_id: str) -> str:
    """An id that the database can be asked for; NotFoundError where nothing is called so."""
    if len(adjustment_id) > 64 or not adjustment_id.isascii() or "\x00" in adjustment_id:
        raise NotFoundError("there is no such adjustment")
    return adjustment_id
