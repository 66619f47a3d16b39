"""The form of statements' requests, and of the key that signs them."""

from marshmallow import fields, validate

from metering.proof import form
from webapp.wire import InstantField, TextField, WireSchema


class StatementQuerySchema(WireSchema):
    """Whose statement, of which billing period."""

    tenant_id = TextField(metadata={"description": "required without a key"})
    customer_ref = TextField(required=True, validate=validate.Length(min=1, max=255))
    period_start = InstantField(metadata={"description": "the current period by default"})
    format = fields.String(load_default="ndjson", validate=validate.OneOf(form.FORMATS))


class StatementKeySchema(WireSchema):
    """The public key by which anybody may check a statement."""

    algorithm = fields.String(required=True)
    key_id = fields.String(required=True, metadata={"description": "the key's fingerprint"})
    public_key = fields.String(required=True, metadata={"description": "32 bytes in base64"})
