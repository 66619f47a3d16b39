"""The form of widget tokens, and of what a page gets for one."""

from marshmallow import fields, validate

from metering.tenancy import widgets
from webapp.wire import TextField, WireSchema

_TENANT = {"description": "required without a key"}
_INSTANT = {"format": "date-time"}


class NewTokenSchema(WireSchema):
    """A token to be made."""

    tenant_id = TextField(metadata=_TENANT)
    customer_ref = TextField(required=True, validate=validate.Length(min=1, max=255))
    metrics = fields.List(
        TextField(validate=validate.Length(min=1, max=100)),
        allow_none=True,
        validate=validate.Length(min=1, max=widgets.MOST_METRICS),
        metadata={"description": "only these are shown; all of them where none are named"},
    )
    origins = fields.List(
        TextField(validate=validate.Length(min=1, max=300)),
        allow_none=True,
        validate=validate.Length(min=1, max=widgets.MOST_ORIGINS),
        metadata={
            "description": "the pages that may show it, such as https://app.example.com; where"
            " none are named, the token belongs to the first that asks"
        },
    )
    ttl_seconds = fields.Integer(
        strict=True,
        load_default=widgets.DEFAULT_TTL,
        validate=validate.Range(min=widgets.SHORTEST_TTL, max=widgets.LONGEST_TTL),
    )


class TokensQuerySchema(WireSchema):
    """Whose tokens."""

    tenant_id = TextField(metadata=_TENANT)
    customer_ref = TextField(validate=validate.Length(min=1, max=255))


class RevocationQuerySchema(WireSchema):
    """Whose tokens end."""

    tenant_id = TextField(metadata=_TENANT)
    customer_ref = TextField(required=True, validate=validate.Length(min=1, max=255))


class TokenSchema(WireSchema):
    """A token without its secret."""

    id = fields.String(required=True)
    customer_ref = fields.String(required=True)
    metrics = fields.List(fields.String(), required=True, allow_none=True)
    origins = fields.List(fields.String(), required=True)
    created_at = fields.String(required=True, metadata=_INSTANT)
    created_by = fields.String(required=True)
    expires_at = fields.String(required=True, metadata=_INSTANT)
    revoked_at = fields.String(required=True, allow_none=True, metadata=_INSTANT)
    token = fields.String(metadata={"description": "shown once, where it was just made"})


class TokensAnswerSchema(WireSchema):
    """A tenant's tokens, the newest first, at most 200."""

    tokens = fields.List(fields.Nested(TokenSchema), required=True)


class RevokedSchema(WireSchema):
    """How many tokens were ended."""

    revoked = fields.Integer(required=True)


class ExchangeSchema(WireSchema):
    """A token; in the sandbox, where no key is needed, whose usage it is does as well."""

    token = TextField(validate=validate.Length(min=1, max=200))
    tenant_id = TextField(validate=validate.Length(min=1, max=128))
    customer_ref = TextField(validate=validate.Length(min=1, max=255))


class OpenedSchema(WireSchema):
    """Where the frame is, once."""

    frame_url = fields.String(required=True)
    code = fields.String(required=True)
    code_expires_in_seconds = fields.Integer(required=True)
    expires_in_seconds = fields.Integer(
        required=True, metadata={"description": "until the token ends, and the session with it"}
    )


class CodeSchema(WireSchema):
    """The code of a frame that is open already: its session goes on under another token."""

    code = TextField(required=True, validate=validate.Length(min=1, max=200))


class RenewedSchema(WireSchema):
    """The open frame's new session."""

    session = fields.String(required=True)
    expires_in_seconds = fields.Integer(required=True)
