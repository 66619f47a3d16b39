"""The form of event listings."""

from marshmallow import fields, validate

from webapp.wire import InstantField, TextField, WireSchema

STATUSES = ("unfolded", "counted", "set_aside", "voided", "dead_letter")


class EventsQuerySchema(WireSchema):
    """Which events, in which order."""

    tenant_id = TextField(required=False, metadata={"description": "required without a key"})
    metric = TextField()
    customer_ref = TextField()
    source = TextField()
    resource_id = TextField()
    start_time = InstantField(metadata={"description": "by ts, inclusive"})
    end_time = InstantField(metadata={"description": "by ts, exclusive"})
    limit = fields.Integer(load_default=25, validate=validate.Range(min=1, max=100))
    cursor = TextField(validate=validate.Length(max=4000))
    offset = fields.Integer(load_default=0, validate=validate.Range(min=0, max=10_000))
    sort = fields.String(load_default="recordedAt", validate=validate.OneOf(["recordedAt", "ts"]))
    sort_dir = fields.String(load_default="desc", validate=validate.OneOf(["asc", "desc"]))


class ListedEventSchema(WireSchema):
    """One event as the ledger holds it, and where it stands."""

    id = fields.String(required=True)
    tenant_id = fields.String(required=True)
    metric = fields.String(required=True)
    customer_ref = fields.String(required=True)
    resource_id = fields.String(required=True, allow_none=True)
    quantity = fields.String(required=True, metadata={"description": "decimal string"})
    timestamp = fields.String(required=True, metadata={"format": "date-time"})
    recorded_at = fields.String(required=True, metadata={"format": "date-time"})
    meta = fields.Dict(required=True, allow_none=True)
    source = fields.String(required=True, allow_none=True)
    status = fields.String(required=True, validate=validate.OneOf(STATUSES))


class TimeRangeSchema(WireSchema):
    """A half-open span of time, `[start, end)`."""

    start = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})
    end = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})


class EventsAnswerSchema(WireSchema):
    """A page of events; `timeRange` is the span of ts that was looked at."""

    total = fields.Integer(required=True, metadata={"description": "exact up to 10,000"})
    total_is_lower_bound = fields.Boolean(required=True)
    events = fields.List(fields.Nested(ListedEventSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)
    time_range = fields.Nested(TimeRangeSchema, required=True)
