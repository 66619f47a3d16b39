"""GET /v1/events/walk: why an event is on the bill, or is not."""

from typing import Any

from flask import Blueprint, Response, g
from sqlalchemy.orm import Session

from metering.proof import trail
from metering.proof.trail import Calling
from metering.stripe.modes import MODES
from metering.tenancy import tenants
from webapp import runtime, stripe_access, wire
from webapp.endpoint import Contract, endpoint
from webapp.evidence import presenters
from webapp.evidence.schemas import WalkAnswerSchema, WalkQuerySchema
from webapp.extensions import db

blueprint = Blueprint("evidence", __name__, url_prefix="/v1/events")
READ = "events:read"


@blueprint.get("/walk")
@endpoint(
    Contract(
        summary="Walk one event to the bill",
        scope=READ,
        query=WalkQuerySchema,
        answer=WalkAnswerSchema,
        statuses=(401, 403, 404, 422),
        tag="Events",
    )
)
def walk(tenant_id: str, query: dict[str, Any]) -> Response:
    """Ledger, counter and period, price, push, Stripe's acceptance, invoice line; and the first of
    these that is not done, with the reason."""
    session = db.session()
    found = trail.walk(session, tenant_id, query["id"], calling(session, tenant_id), now=g.now)
    return wire.answer(presenters.walk(found, g.now))


def calling(session: Session, tenant_id: str) -> Calling:
    """What the walk must know of this installation's keys."""
    config = runtime.current().config
    mode = tenants.get(session, tenant_id).mode
    cannot: dict[str, str | None] = {
        each: stripe_access.why_not(config, each, tenant_mode=mode) for each in MODES
    }
    return Calling(config.stripe_account, cannot)
