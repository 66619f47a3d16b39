"""/v1/mappings: what a metric costs, and where in Stripe it belongs."""

from collections.abc import Sequence
from typing import Any

import msgspec
from flask import Blueprint, Response, g
from sqlalchemy.orm import Session

from metering.catalog import mappings, metrics
from metering.catalog.models import MetricMapping
from metering.database import unit_of_work
from metering.errors import NotFoundError
from metering.ledger import requests
from metering.stripe import opening
from metering.tenancy import locks
from pricing.price import to_config
from webapp import auth, wire
from webapp.catalog.schemas import TenantQuerySchema
from webapp.endpoint import Contract, endpoint, request_key
from webapp.extensions import db
from webapp.mappings import openings, presenters
from webapp.mappings.schemas import (
    MappingChangesSchema,
    MappingsAnswerSchema,
    MappingSchema,
    MappingsQuerySchema,
    NewMappingSchema,
)

blueprint = Blueprint("mappings", __name__, url_prefix="/v1/mappings")

OPERATION = "create-mapping"
_COLUMN = {"active": "is_active", "shadow": "is_shadow"}


@blueprint.get("")
@endpoint(
    Contract(
        summary="List mappings",
        scope="mappings:read",
        query=MappingsQuerySchema,
        answer=MappingsAnswerSchema,
        statuses=(401, 403, 422),
        tag="Mappings",
    )
)
def list_mappings(tenant_id: str, query: dict[str, Any]) -> Response:
    """By metric and time, the ended ones among them."""
    session, limit = db.session(), query["limit"]
    found = mappings.listed(
        session,
        tenant_id,
        metric=query.get("metric"),
        customer_ref=query.get("customer_ref"),
        after=_last_of_page(session, tenant_id, query.get("cursor")),
        limit=limit + 1,
    )
    page = found[:limit]
    answer = {
        "mappings": _presented(session, tenant_id, page),
        "nextCursor": page[-1].mapping_id if len(found) > limit else None,
    }
    return wire.answer(answer)


@blueprint.post("")
@endpoint(
    Contract(
        summary="Map a metric to a price",
        scope="mappings:write",
        body=NewMappingSchema,
        answer=MappingSchema,
        answer_status=201,
        statuses=(400, 401, 403, 409, 415, 422, 503),
        tag="Mappings",
        headers={"Idempotency-Key": "a repetition answers with the mapping that was made"},
    )
)
def create_mapping(tenant_id: str, body: dict[str, Any]) -> Response:
    """The price is given as `priceConfig` or as `stripePrice`. Of one metric's mappings in the same
    scope (everyone, one customer, one subscription item) no two that are active may overlap in
    time, nor two that are shadow, unless they lead to different meters: 409. So does a meter that
    is deactivated, has an `event_time_window` or does not sum, an account of another tenant, and a
    beginning in the past while Stripe's total since then is not zero, which `openingTotal` must
    name. With `shadow: true` and no `active` it is shadow only. The
    metric is made if it is new."""
    named, wanted = request_key(), _attributes(body)
    said = _canonical(wanted)
    acknowledged = wanted.pop("opening_total", None)
    questions, totals = openings.asked(tenant_id, wanted)
    with unit_of_work(db.session()) as session:
        auth.ensure_tenant(session, tenant_id)
        _lock(session, tenant_id)
        mapping_id = mappings.id_of(named)
        if named is None or requests.claim(session, tenant_id, OPERATION, named, said, now=g.now):
            foreign = opening.foreign(session, tenant_id, totals)
            opening.agree(questions, foreign, acknowledged)
            made = mappings.create(session, tenant_id, mapping_id, wanted, now=g.now)
            openings.check(session, made)
            opening.adopt(session, made, foreign, now=g.now)
            openings.follow(session, made)
        else:
            made = mappings.get(session, tenant_id, mapping_id)
        [answer] = _presented(session, tenant_id, [made])
    return wire.answer(answer, 201)


@blueprint.get("/<mapping_id>")
@endpoint(
    Contract(
        summary="Read a mapping",
        scope="mappings:read",
        query=TenantQuerySchema,
        answer=MappingSchema,
        statuses=(401, 403, 404, 422),
        tag="Mappings",
    )
)
def read_mapping(mapping_id: str, tenant_id: str, query: dict[str, Any]) -> Response:
    """Also where it has ended."""
    session = db.session()
    found = mappings.get(session, tenant_id, _checked(mapping_id))
    return wire.answer(_presented(session, tenant_id, [found])[0])


@blueprint.put("/<mapping_id>")
@blueprint.patch("/<mapping_id>")
@endpoint(
    Contract(
        summary="Edit a mapping",
        scope="mappings:write",
        body=MappingChangesSchema,
        answer=MappingSchema,
        statuses=(400, 401, 403, 404, 409, 415, 422),
        tag="Mappings",
    )
)
def edit_mapping(mapping_id: str, tenant_id: str, body: dict[str, Any]) -> Response:
    """A new price is the price of all of the mapping's time, the past included. For a price that
    changes at an instant, let this mapping end there and create one that begins."""
    changes = _attributes(body)
    with unit_of_work(db.session()) as session:
        _lock(session, tenant_id)
        edited = mappings.edit(session, tenant_id, _checked(mapping_id), changes, now=g.now)
        if not openings.JUDGED.isdisjoint(changes):
            openings.check(session, edited)
        openings.follow(session, edited)
        [answer] = _presented(session, tenant_id, [edited])
    return wire.answer(answer)


@blueprint.delete("/<mapping_id>")
@endpoint(
    Contract(
        summary="End a mapping",
        scope="mappings:write",
        query=TenantQuerySchema,
        answer=MappingSchema,
        statuses=(401, 403, 404, 422),
        tag="Mappings",
    )
)
def end_mapping(mapping_id: str, tenant_id: str, query: dict[str, Any]) -> Response:
    """At this instant, or before it begins. It stays as history; what has ended stays as it is."""
    with unit_of_work(db.session()) as session:
        _lock(session, tenant_id)
        ended = mappings.end(session, tenant_id, _checked(mapping_id), now=g.now)
        openings.follow(session, ended)
        [answer] = _presented(session, tenant_id, [ended])
    return wire.answer(answer)


def _lock(session: Session, tenant_id: str) -> None:
    """Before anything else, as the fold does: billing periods may follow from a mapping, and a
    fold that has the lock may wait for a metric that is being made."""
    locks.lock(session, tenant_id)


def _attributes(body: dict[str, Any]) -> dict[str, Any]:
    """The body by the mapping's attributes, with the price from whichever form it came in."""
    attributes = {_COLUMN.get(name, name): value for name, value in body.items()}
    prices = [attributes.pop(n) for n in ("price_config", "stripe_price") if n in attributes]
    if prices:
        attributes["price"] = next((price for price in prices if price is not None), None)
    return attributes


def _canonical(wanted: dict[str, Any]) -> bytes:
    """What the request says, however it spelt the price."""
    price = wanted.get("price")
    plain = wanted | ({"price": to_config(price)} if price is not None else {})
    return msgspec.json.encode(plain, order="sorted")


def _presented(
    session: Session, tenant_id: str, shown: Sequence[MetricMapping]
) -> list[dict[str, Any]]:
    if not shown:
        return []
    known = metrics.found(session, tenant_id, [each.metric for each in shown])
    standings = openings.standings(session, tenant_id, shown)
    return [presenters.mapping(each, known[each.metric], standings) for each in shown]


def _last_of_page(session: Session, tenant_id: str, cursor: str | None) -> MetricMapping | None:
    if cursor is None:
        return None
    try:
        return mappings.get(session, tenant_id, cursor)
    except NotFoundError:
        raise wire.invalid_field("cursor", "is not one that was handed out") from None


def _checked(mapping_id: str) -> str:
    if len(mapping_id) > 64 or "\x00" in mapping_id:
        raise wire.invalid_field("id", "is not a mapping's id")
    return mapping_id
