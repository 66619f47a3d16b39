"""/v1/widget/tokens: made by the host's backend, one for each customer who looks."""

from datetime import timedelta
from typing import Any

from flask import Blueprint, Response, g

from metering.database import unit_of_work
from metering.tenancy import widgets
from metering.tenancy.models import WidgetToken
from webapp import auth, wire
from webapp.catalog.schemas import TenantQuerySchema
from webapp.endpoint import Contract, endpoint
from webapp.extensions import db
from webapp.widget.schemas import (
    NewTokenSchema,
    RevocationQuerySchema,
    RevokedSchema,
    TokensAnswerSchema,
    TokenSchema,
    TokensQuerySchema,
)

blueprint = Blueprint("widget_tokens", __name__, url_prefix="/v1/widget/tokens")


@blueprint.post("")
@endpoint(
    Contract(
        summary="Make a widget token",
        scope="widget:write",
        body=NewTokenSchema,
        answer=TokenSchema,
        answer_status=201,
        statuses=(400, 401, 403, 404, 415, 422),
        tag="Widget",
        example={"customerRef": "cus_ABC123", "origins": ["https://app.example.com"]},
    )
)
def mint(tenant_id: str, body: dict[str, Any]) -> Response:
    """For one customer, for minutes: whoever has it sees this customer's usage and nothing else.

    Ask for it when the customer opens your page, after you know who it is.
    """
    wanted = widgets.Wanted(
        customer_ref=body["customer_ref"],
        metrics=body.get("metrics"),
        origins=body.get("origins") or (),
        ttl=timedelta(seconds=body["ttl_seconds"]),
    )
    with unit_of_work(db.session()) as session:
        auth.ensure_tenant(session, tenant_id)
        caller = auth.principal()
        token, secret = widgets.mint(session, tenant_id, wanted, created_by=caller.actor, now=g.now)
        answer = _token(token) | {"token": secret}
    return wire.answer(answer, 201, {"Cache-Control": "no-store"})


@blueprint.get("")
@endpoint(
    Contract(
        summary="List widget tokens",
        scope="widget:read",
        query=TokensQuerySchema,
        answer=TokensAnswerSchema,
        statuses=(401, 403, 422),
        tag="Widget",
    )
)
def list_tokens(tenant_id: str, query: dict[str, Any]) -> Response:
    """Without their secrets; those that ended within the last week among them."""
    found = widgets.listed(db.session(), tenant_id, query.get("customer_ref"))
    return wire.answer({"tokens": [_token(token) for token in found]})


@blueprint.delete("/<token_id>")
@endpoint(
    Contract(
        summary="Revoke a widget token",
        scope="widget:write",
        query=TenantQuerySchema,
        answer_status=204,
        statuses=(401, 403, 404, 422),
        tag="Widget",
    )
)
def revoke(token_id: str, tenant_id: str, query: dict[str, Any]) -> Response:
    """At once: every widget that it opened ends at its next look, within seconds."""
    if len(token_id) > 64 or "\x00" in token_id:
        raise wire.invalid_field("id", "is not a token's id")
    with unit_of_work(db.session()) as session:
        widgets.revoke(session, tenant_id, token_id, now=g.now)
    return Response(status=204)


@blueprint.delete("")
@endpoint(
    Contract(
        summary="Revoke all widget tokens of a customer",
        scope="widget:write",
        query=RevocationQuerySchema,
        answer=RevokedSchema,
        statuses=(401, 403, 422),
        tag="Widget",
    )
)
def revoke_all(tenant_id: str, query: dict[str, Any]) -> Response:
    """When a customer signs out, or somebody saw what was not theirs."""
    with unit_of_work(db.session()) as session:
        ended = widgets.revoke_all(session, tenant_id, query["customer_ref"], now=g.now)
    return wire.answer({"revoked": ended})


def _token(token: WidgetToken) -> dict[str, Any]:
    return {
        "id": token.token_id,
        "customerRef": token.customer_ref,
        "metrics": token.metrics,
        "origins": token.origins,
        "createdAt": wire.instant(token.created_at),
        "createdBy": token.created_by,
        "expiresAt": wire.instant(token.expires_at),
        "revokedAt": wire.instant(token.revoked_at) if token.revoked_at else None,
    }
