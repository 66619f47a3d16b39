"""POST /v1/events/void and /v1/events/restore: leave one event out of every total, and back."""

from typing import Any

from flask import Blueprint, Response, g
from sqlalchemy.orm import Session

from metering.counters import corrections, standing, usage, voids
from metering.database import unit_of_work
from metering.ledger import read
from webapp import auth, wire
from webapp.endpoint import Contract, endpoint
from webapp.extensions import db
from webapp.voids.schemas import VoidedSchema, VoidSchema

blueprint = Blueprint("voids", __name__, url_prefix="/v1/events")


def _contract(summary: str) -> Contract:
    return Contract(
        summary=summary,
        scope="events:write",
        body=VoidSchema,
        answer=VoidedSchema,
        statuses=(400, 401, 403, 404, 409, 415, 422),
        tag="Events",
    )


@blueprint.post("/void")
@endpoint(_contract("Void an event"))
def void(tenant_id: str, body: dict[str, Any]) -> Response:
    """It counts nowhere any more, exactly, for every aggregation, in open periods and closed ones;
    the ledger keeps it. Voiding it again changes nothing, not even the reason."""
    with unit_of_work(db.session()) as session:
        voids.void(
            session,
            tenant_id,
            body["id"],
            reason=body["reason"],
            actor=auth.principal().actor,
            now=g.now,
        )
        answer = _standing(session, tenant_id, body["id"])
    return wire.answer(answer)


@blueprint.post("/restore")
@endpoint(_contract("Restore a voided event"))
def restore(tenant_id: str, body: dict[str, Any]) -> Response:
    """It counts again as it did. 409 where it is not void."""
    with unit_of_work(db.session()) as session:
        voids.restore(
            session,
            tenant_id,
            body["id"],
            reason=body["reason"],
            actor=auth.principal().actor,
            now=g.now,
        )
        answer = _standing(session, tenant_id, body["id"])
    return wire.answer(answer)


def _standing(session: Session, tenant_id: str, key: str) -> dict[str, Any]:
    session.flush()
    event = read.by_keys(session, tenant_id, [key])[key]
    of = tenant_id, event.customer_ref, event.metric
    span = corrections.period_at(session, *of, event.occurred_at)
    steps = voids.steps(session, tenant_id, key)
    last = steps[-1]
    return {
        "id": key,
        "tenantId": tenant_id,
        "status": standing.of_events(session, tenant_id, [event])[key],
        "metric": event.metric,
        "customerRef": event.customer_ref,
        "quantity": wire.decimal(event.quantity),
        "reason": last.reason,
        "actor": last.actor,
        "at": wire.instant(last.taken_at),
        "period": {"start": wire.instant(span.start_at), "end": wire.instant(span.end_at)},
        "total": wire.decimal(usage.total(session, *of, span.start_at)),
        "steps": [
            {
                "action": step.action,
                "reason": step.reason,
                "actor": step.actor,
                "at": wire.instant(step.taken_at),
            }
            for step in steps
        ],
    }
