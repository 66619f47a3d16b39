"""GET /v1/events: what the ledger holds, newest first."""

import base64
import binascii
import json
from datetime import datetime
from typing import Any

from flask import Blueprint, Response, g
from marshmallow import ValidationError
from sqlalchemy.orm import Session

from metering.counters import standing, usage
from metering.ledger import read
from webapp import wire
from webapp.endpoint import Contract, endpoint
from webapp.events import presenters
from webapp.events.schemas import EventsAnswerSchema, EventsQuerySchema
from webapp.extensions import db
from webapp.ingest.schemas import AHEAD

blueprint = Blueprint("events", __name__, url_prefix="/v1/events")


@blueprint.get("")
@endpoint(
    Contract(
        summary="List events",
        scope="events:read",
        query=EventsQuerySchema,
        answer=EventsAnswerSchema,
        statuses=(401, 403, 422),
        tag="Events",
    )
)
def list_events(tenant_id: str, query: dict[str, Any]) -> Response:
    """Events by arrival or by ts. By ts or customer, at most 31 days are read in a call; without
    a time range these are the latest 31 days in which there is usage."""
    session = db.session()
    by_event_time = query["sort"] == "ts"
    after = _read_cursor(query.get("cursor"))
    start_at, end_at = _span(session, tenant_id, query, by_event_time)
    page = read.page(
        session,
        read.Slice(
            tenant_id=tenant_id,
            metric=query.get("metric"),
            customer_ref=query.get("customer_ref"),
            source=query.get("source"),
            resource_id=query.get("resource_id"),
            start_at=start_at,
            end_at=end_at,
            by_event_time=by_event_time,
            descending=query["sort_dir"] == "desc",
            after=after,
            offset=query["offset"],
            limit=query["limit"],
        ),
    )
    standings = standing.of_events(session, tenant_id, page.events)
    return wire.answer(
        {
            "total": page.total,
            "totalIsLowerBound": page.total_is_lower_bound,
            "events": [
                presenters.event(event, standings[event.idempotency_key]) for event in page.events
            ],
            "nextCursor": _cursor(page.next_after) if page.next_after else None,
            "timeRange": {
                "start": wire.instant(start_at) if start_at else None,
                "end": wire.instant(end_at) if end_at else None,
            },
        }
    )


def _span(
    session: Session, tenant_id: str, query: dict[str, Any], by_event_time: bool
) -> tuple[datetime | None, datetime | None]:
    """The span asked for; where one is needed and not whole, a month reaching to what is known."""
    start_at: datetime | None = query.get("start_time")
    end_at: datetime | None = query.get("end_time")
    if start_at is not None and end_at is not None and start_at >= end_at:
        raise wire.invalid_field("endTime", "must lie after startTime")
    customer_ref = query.get("customer_ref")
    if not by_event_time and customer_ref is None:
        return start_at, end_at
    if start_at is None and end_at is None:
        end_at = g.now + AHEAD
        latest = usage.watermark(session, tenant_id, customer_ref, query.get("metric"))
        if latest is not None and latest < end_at - read.MOST_BY_TIME:
            end_at = latest + AHEAD
    if start_at is not None:
        return start_at, end_at or start_at + read.MOST_BY_TIME
    assert end_at is not None
    return end_at - read.MOST_BY_TIME, end_at


def _cursor(place: tuple[datetime, str]) -> str:
    text = json.dumps([place[0].isoformat(), place[1]], ensure_ascii=False)
    return base64.urlsafe_b64encode(text.encode()).decode()


def _read_cursor(cursor: str | None) -> tuple[datetime, str] | None:
    if cursor is None:
        return None
    try:
        at, key = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        place = datetime.fromisoformat(at)
        wire.check_text(key)
    except (ValueError, TypeError, ValidationError, binascii.Error, AttributeError):
        raise wire.invalid_field("cursor", "is not one that this API gave") from None
    if place.tzinfo is None:
        raise wire.invalid_field("cursor", "is not one that this API gave")
    return place, key
