"""The form of API keys."""

from marshmallow import fields, validate

from metering.tenancy.scopes import ALL
from webapp.wire import TextField, WireSchema

_TENANT = {"description": "required without a key"}
A_WEEK = 7 * 86_400


class NewKeySchema(WireSchema):
    """A key to be made."""

    tenant_id = TextField(metadata=_TENANT)
    name = TextField(required=True, validate=validate.Length(min=1, max=100))
    scopes = fields.List(
        fields.String(validate=validate.OneOf(["all", *sorted(ALL)])),
        required=True,
        validate=validate.Length(min=1, max=50),
    )


class EndKeySchema(WireSchema):
    """How long the old key goes on working."""

    tenant_id = TextField(metadata=_TENANT)
    grace_seconds = fields.Integer(
        strict=True, load_default=0, validate=validate.Range(min=0, max=A_WEEK)
    )


class KeySchema(WireSchema):
    """A key without its secret."""

    id = fields.String(required=True)
    name = fields.String(required=True)
    scopes = fields.List(fields.String(), required=True)
    created_at = fields.String(required=True, metadata={"format": "date-time"})
    created_by = fields.String(required=True)
    expires_at = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})
    secret = fields.String(metadata={"description": "shown once, where the key was just made"})


class KeysAnswerSchema(WireSchema):
    """A tenant's keys, the newest first."""

    keys = fields.List(fields.Nested(KeySchema), required=True)
