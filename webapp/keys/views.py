"""/v1/admin/api-keys: make, list, rotate and revoke the caller's tenant's keys."""

from typing import Any

import msgspec
from flask import Blueprint, Response, g

from metering.database import unit_of_work
from metering.errors import ConflictError
from metering.ledger import requests
from metering.tenancy import keys
from metering.tenancy.models import ApiKey
from webapp import auth, wire
from webapp.catalog.schemas import TenantQuerySchema
from webapp.endpoint import Contract, endpoint, request_key
from webapp.extensions import db
from webapp.keys.schemas import EndKeySchema, KeysAnswerSchema, KeySchema, NewKeySchema

blueprint = Blueprint("keys", __name__, url_prefix="/v1/admin/api-keys")

OPERATION = "create-api-key"


@blueprint.get("")
@endpoint(
    Contract(
        summary="List API keys",
        scope="admin:read",
        query=TenantQuerySchema,
        answer=KeysAnswerSchema,
        statuses=(401, 403, 422),
        tag="API keys",
    )
)
def list_keys(tenant_id: str, query: dict[str, Any]) -> Response:
    """Without their secrets, which nobody can read again."""
    found = keys.listed(db.session(), tenant_id)
    return wire.answer({"keys": [_key(key) for key in found]})


@blueprint.post("")
@endpoint(
    Contract(
        summary="Make an API key",
        scope="admin:write",
        body=NewKeySchema,
        answer=KeySchema,
        answer_status=201,
        statuses=(400, 401, 403, 409, 415, 422),
        tag="API keys",
        headers={"Idempotency-Key": "a repetition answers 409: the secret is shown only once"},
    )
)
def create_key(tenant_id: str, body: dict[str, Any]) -> Response:
    """A key can be given no scope that its maker lacks."""
    caller = auth.principal()
    named = request_key()
    with unit_of_work(db.session()) as session:
        auth.ensure_tenant(session, tenant_id)
        if named is not None:
            first_time = requests.claim(
                session, tenant_id, OPERATION, named, msgspec.json.encode(body), now=g.now
            )
            if not first_time:
                raise ConflictError(
                    "this request was carried out before, and its secret shown then;"
                    " rotate the key if the secret was lost"
                )
        key, secret = keys.create(
            session,
            tenant_id,
            name=body["name"],
            scopes=body["scopes"],
            granted_by=caller.scopes,
            created_by=caller.actor,
            now=g.now,
        )
        answer = _key(key) | {"secret": secret}
    return wire.answer(answer, 201, {"Cache-Control": "no-store"})


@blueprint.post("/<key_id>/rotate")
@endpoint(
    Contract(
        summary="Replace an API key",
        scope="admin:write",
        body=EndKeySchema,
        answer=KeySchema,
        answer_status=201,
        statuses=(400, 401, 403, 404, 409, 415, 422),
        tag="API keys",
    )
)
def rotate_key(key_id: str, tenant_id: str, body: dict[str, Any]) -> Response:
    """The same name and scopes under a new secret; the old key ends after the grace."""
    caller = auth.principal()
    _check_id(key_id)
    with unit_of_work(db.session()) as session:
        key, secret = keys.rotate(
            session,
            tenant_id,
            key_id,
            created_by=caller.actor,
            granted_by=caller.scopes,
            now=g.now,
            grace_seconds=body["grace_seconds"],
        )
        answer = _key(key) | {"secret": secret}
    return wire.answer(answer, 201, {"Cache-Control": "no-store"})


@blueprint.delete("/<key_id>")
@endpoint(
    Contract(
        summary="Revoke an API key",
        scope="admin:write",
        query=TenantQuerySchema,
        answer_status=204,
        statuses=(401, 403, 404, 422),
        tag="API keys",
    )
)
def revoke_key(key_id: str, tenant_id: str, query: dict[str, Any]) -> Response:
    """At once: the next request with the key is refused."""
    _check_id(key_id)
    with unit_of_work(db.session()) as session:
        keys.revoke(session, tenant_id, key_id, now=g.now)
    return Response(status=204)


def _check_id(key_id: str) -> None:
    if len(key_id) > 64 or "\x00" in key_id:
        raise wire.invalid_field("id", "is not a key's id")


def _key(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.key_id,
        "name": key.name,
        "scopes": key.scopes,
        "createdAt": wire.instant(key.created_at),
        "createdBy": key.created_by,
        "expiresAt": wire.instant(key.expires_at) if key.expires_at else None,
    }
