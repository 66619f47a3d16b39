"""What a customer has used, is heading for, and used when."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from flask import Blueprint, Response, g

from metering.billing import projection as billing
from metering.catalog import metrics
from metering.catalog.period import Span
from metering.counters import calendar, history, usage
from metering.errors import NotFoundError
from webapp import cursor, wire
from webapp.endpoint import Contract, endpoint
from webapp.extensions import db
from webapp.usage import presenters, projected
from webapp.usage.schemas import (
    CurrentAnswerSchema,
    CurrentQuerySchema,
    HistoryAnswerSchema,
    HistoryQuerySchema,
    PeriodsAnswerSchema,
    PeriodsQuerySchema,
    ProjectionAnswerSchema,
    ProjectionBodySchema,
)

blueprint = Blueprint("usage", __name__, url_prefix="/v1/usage")


@blueprint.get("/current")
@endpoint(
    Contract(
        summary="A customer's usage in the current billing period",
        scope="usage:read",
        query=CurrentQuerySchema,
        answer=CurrentAnswerSchema,
        statuses=(401, 403, 422),
        tag="Usage",
    )
)
def current(tenant_id: str, query: dict[str, Any]) -> Response:
    """Each metric by its own aggregation, with its `asOf` and what is not in the number yet."""
    found = usage.of_customer(db.session(), tenant_id, query["customer_ref"], None, now=g.now)
    return wire.answer(presenters.current(query["customer_ref"], found, g.now))


@blueprint.get("/periods")
@endpoint(
    Contract(
        summary="A customer's billing periods, and what came too late for them",
        scope="usage:read",
        query=PeriodsQuerySchema,
        answer=PeriodsAnswerSchema,
        statuses=(401, 403, 422),
        tag="Usage",
    )
)
def list_periods(tenant_id: str, query: dict[str, Any]) -> Response:
    """The newest first. Usage that is recorded by `closesAt` counts in its period, however old;
    what comes later is set aside and proposed as an adjustment."""
    customer_ref, limit = query["customer_ref"], query["limit"]
    found = calendar.page(
        db.session(),
        tenant_id,
        customer_ref,
        metric=query.get("metric"),
        after=cursor.read_place(query["cursor"]) if "cursor" in query else None,
        limit=limit + 1,
        now=g.now,
    )
    more = cursor.write(found[limit - 1].place) if len(found) > limit else None
    return wire.answer(presenters.periods(customer_ref, found[:limit], more))


@blueprint.post("/projection")
@endpoint(
    Contract(
        summary="A customer's billing period so far, and where it is heading",
        scope="usage:read",
        body=ProjectionBodySchema,
        answer=ProjectionAnswerSchema,
        statuses=(400, 401, 403, 415, 422),
        tag="Usage",
    )
)
def projection(tenant_id: str, body: dict[str, Any]) -> Response:
    """The billing period that begins at `periodStart`, by default each metric's current one.

    Sums and counts are projected to the period's end with a low-high band: by hour of the week
    where at least 4 whole weeks of the customer's history are known, else evenly. Other readings
    do not grow with time and stay as they are. All of a metric's usage is at the price in force at
    the period's end. A metric without a price is listed with `unitPrice: null` and a warning."""
    session, customer_ref = db.session(), body["customer_ref"]
    start, period = body.get("period_start"), None
    if start is not None:
        known = usage.periods_at(session, tenant_id, customer_ref, start)
        period = _billing_period(start, body.get("period_end"), known)
    elif body.get("period_end") is not None:
        raise wire.invalid_field("periodStart", "is needed where periodEnd is given")
    found = billing.project(session, tenant_id, customer_ref, period, now=g.now)
    return wire.answer(projected.projection(customer_ref, found, g.now))


def _billing_period(start: datetime, end: datetime | None, known: Sequence[Span]) -> Span:
    """The one of the known periods that is meant; refused where these are no period's bounds."""
    begun = [span for span in known if span.start_at == start]
    if not begun:
        raise wire.invalid_field(
            "periodStart",
            "is not the start of a billing period; the one that holds it starts at "
            + wire.instant(known[0].start_at),
        )
    for span in begun:
        if end is None or span.end_at == end:
            return span
    raise wire.invalid_field(
        "periodEnd", f"is not this period's end, which is {wire.instant(begun[0].end_at)}"
    )


@blueprint.get("/history")
@endpoint(
    Contract(
        summary="A metric over time",
        scope="usage:read",
        query=HistoryQuerySchema,
        answer=HistoryAnswerSchema,
        statuses=(401, 403, 404, 422),
        tag="Usage",
    )
)
def series(tenant_id: str, query: dict[str, Any]) -> Response:
    """By minute at most 24 hours; unique counts, and zones not whole hours off UTC, at most 31
    days. Without customerRef, of all customers together."""
    session = db.session()
    try:
        aggregation = metrics.get(session, tenant_id, query["metric"]).aggregation
    except NotFoundError:
        # An unknown metric has been used as much as any other unknown thing: not at all yet.
        aggregation = "sum"
    question = history.Question(
        tenant_id=tenant_id,
        metric=query["metric"],
        aggregation=aggregation,
        customer_ref=query.get("customer_ref"),
        span=_asked_span(query, g.now),
        interval=_one_of(query, "interval", "step") or "day",
        zone=_zone(query["timezone"]),
    )
    answered = history.ask(session, question)
    as_of = usage.as_of(session, tenant_id, now=g.now)
    return wire.answer(presenters.history(question, answered, as_of))


def _asked_span(query: dict[str, Any], now: datetime) -> Span:
    since = _moment(query, "since", "period_start", "-P30D", now)
    until = _moment(query, "until", "period_end", "now", now)
    if since >= until:
        raise wire.invalid_field("until", "must lie after since")
    return Span(since, until)


def _moment(query: dict[str, Any], name: str, older: str, default: str, now: datetime) -> datetime:
    text = _one_of(query, name, older) or default
    try:
        return wire.read_moment(text, now)
    except ValueError as error:
        raise wire.invalid_field(name, str(error)) from None


def _one_of(query: dict[str, Any], name: str, older: str) -> str | None:
    if name in query and older in query:
        raise wire.invalid_field(name, "is given twice, also by its older name")
    value: str | None = query.get(name, query.get(older))
    return value


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise wire.invalid_field("timezone", "is not an IANA time zone name") from None
