"""The form of backfills."""

from marshmallow import fields, validate

from metering.ledger import uploads
from webapp.catalog.schemas import TenantQuerySchema
from webapp.ingest.schemas import EventSchema
from webapp.wire import TextField, WireSchema

STATES = ("receiving", "incomplete", "waiting", "running", "done", "failed")
_TENANT = {"description": "required without a key"}
_REASON = {"description": "why the usage is imported", "example": "usage of the old system"}
_LATE = {
    "description": "what becomes of old usage whose period is not closed: `count` counts it,"
    " `set_aside` lets what is older than the metric's lateness await approval"
}


class EventOfFileSchema(EventSchema):
    """One usage event; its tenant need not be named."""

    tenant_id = TextField()


class NewBackfillSchema(WireSchema):
    """Events to import, as an alternative to a file."""

    tenant_id = TextField(metadata=_TENANT)
    events = fields.List(
        fields.Nested(EventOfFileSchema), required=True, validate=validate.Length(min=1)
    )
    reason = TextField(required=True, validate=validate.Length(min=1, max=500), metadata=_REASON)
    late = fields.String(
        load_default="count", validate=validate.OneOf(uploads.LATE), metadata=_LATE
    )


class UploadQuerySchema(WireSchema):
    """What a file is; with a JSON body, that says it."""

    tenant_id = TextField(metadata=_TENANT)
    reason = TextField(validate=validate.Length(min=1, max=500), metadata=_REASON)
    late = fields.String(validate=validate.OneOf(uploads.LATE), metadata=_LATE)
    file_name = TextField(validate=validate.Length(min=1, max=255))


class ContinuedQuerySchema(WireSchema):
    """Where the file goes on."""

    tenant_id = TextField(metadata=_TENANT)
    offset = fields.Integer(
        required=True,
        validate=validate.Range(min=0, max=2**62),
        metadata={"description": "bytes of the file, before compression, received so far"},
    )


class BackfillsQuerySchema(TenantQuerySchema):
    """From where on."""

    limit = fields.Integer(load_default=25, validate=validate.Range(min=1, max=100))
    cursor = TextField(validate=validate.Length(max=4000))


class ErrorsQuerySchema(TenantQuerySchema):
    """From where on; or everything as CSV."""

    limit = fields.Integer(load_default=100, validate=validate.Range(min=1, max=1000))
    cursor = TextField(validate=validate.Length(max=4000))
    format = fields.String(load_default="json", validate=validate.OneOf(["json", "csv"]))


class LineErrorSchema(WireSchema):
    """A line that was not imported. line: as an editor counts, the file's first is 1."""

    line = fields.Integer(required=True)
    message = fields.String(required=True)
    excerpt = fields.String(required=True)


class ListedBackfillSchema(WireSchema):
    """A backfill and how far it is. processed: lines read. totalBytes: those received so far."""

    id = fields.String(required=True)
    state = fields.String(required=True, validate=validate.OneOf(STATES))
    format = fields.String(required=True, validate=validate.OneOf(uploads.FORMATS))
    file_name = fields.String(required=True, allow_none=True)
    reason = fields.String(required=True)
    actor = fields.String(required=True)
    late = fields.String(required=True, validate=validate.OneOf(uploads.LATE))
    total_bytes = fields.Integer(required=True)
    processed_bytes = fields.Integer(required=True)
    processed = fields.Integer(required=True)
    accepted = fields.Integer(required=True)
    duplicates = fields.Integer(required=True)
    failed = fields.Integer(required=True)
    error = fields.String(required=True, allow_none=True)
    created_at = fields.String(required=True)
    finished_at = fields.String(required=True, allow_none=True)


class BackfillSchema(ListedBackfillSchema):
    """A backfill with the first 100 of its refused lines."""

    errors = fields.List(fields.Nested(LineErrorSchema), required=True)


class BackfillsAnswerSchema(WireSchema):
    """A page of backfills, the newest first."""

    backfills = fields.List(fields.Nested(ListedBackfillSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class ErrorsAnswerSchema(WireSchema):
    """A page of refused lines, by their number."""

    errors = fields.List(fields.Nested(LineErrorSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)
