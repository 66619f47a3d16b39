"""The form of where a tenant stands with Stripe."""

from marshmallow import fields, validate

from metering.stripe import findings, modes
from webapp.wire import TextField, WireSchema

_TENANT = {"description": "required without a key"}
MONTH = r"^20[0-9]{2}-(0[1-9]|1[0-2])$"
_STATES = ("off", "held", "shared", "waiting", "equal", "unbilled", "differs", "unknown")


class AtStakeSchema(WireSchema):
    """An amount of one currency; currencies are not converted."""

    currency = fields.String(required=True)
    amount = fields.String(required=True)
    amount_minor = fields.Integer(required=True)


class HaltSchema(WireSchema):
    """An account to which nothing is sent. `rate_limited` is no trouble."""

    account = fields.String(required=True)
    kind = fields.String(required=True)
    reason = fields.String(required=True)
    until = fields.String(required=True, allow_none=True)


class ModeStandingSchema(WireSchema):
    """One mode. unsent: hourly segments of which Stripe may not have heard all. onTheWay: pushes
    not yet answered. unconfirmed: accepted, and not yet seen in Stripe's own total. confirmed:
    seen there, ever."""

    mode = fields.String(required=True, validate=validate.OneOf(modes.MODES))
    sentence = fields.String(required=True)
    mappings = fields.Integer(required=True)
    unsent = fields.Integer(required=True)
    oldest_unsent_at = fields.String(required=True, allow_none=True)
    on_the_way = fields.Integer(required=True)
    unconfirmed = fields.Integer(required=True)
    oldest_unconfirmed_at = fields.String(required=True, allow_none=True)
    confirmed = fields.Integer(required=True)
    doubtful = fields.Integer(required=True)
    drifting = fields.Integer(required=True)
    held = fields.Integer(required=True)
    held_customers = fields.Integer(required=True)
    blocked = fields.Integer(required=True)
    unsendable = fields.Integer(required=True)
    is_lower_bound = fields.Boolean(required=True)
    last_answer_at = fields.String(required=True, allow_none=True)
    halts = fields.List(fields.Nested(HaltSchema), required=True)
    at_stake = fields.List(fields.Nested(AtStakeSchema), required=True)


class StripeStatusSchema(WireSchema):
    """The whole in a sentence, then by mode: live first, then test."""

    sentence = fields.String(required=True)
    as_of = fields.String(required=True)
    unfolded = fields.Integer(required=True)
    oldest_unfolded_at = fields.String(required=True, allow_none=True)
    modes = fields.List(fields.Nested(ModeStandingSchema), required=True)


class StuckQuerySchema(WireSchema):
    """Of which mode and kind, from where on."""

    tenant_id = TextField(metadata=_TENANT)
    mode = fields.String(validate=validate.OneOf(modes.MODES))
    kind = fields.String(validate=validate.OneOf(findings.KINDS))
    limit = fields.Integer(load_default=25, validate=validate.Range(min=1, max=100))
    cursor = TextField(validate=validate.Length(max=4000))


class FedBySchema(WireSchema):
    """A customer's metric."""

    customer_ref = fields.String(required=True)
    metric = fields.String(required=True)


class StuckSchema(WireSchema):
    """One thing that is stuck. quantity: what is not at Stripe, below 0 what it has too much.
    amount: what that costs in its periods; null where it is not known, and then `amountUnknown`
    says why. pushes: how many pushes, segments or streams it is about."""

    id = fields.String(required=True)
    kind = fields.String(required=True, validate=validate.OneOf(findings.KINDS))
    cause = fields.String(required=True)
    mode = fields.String(required=True, validate=validate.OneOf(modes.MODES))
    reason = fields.String(required=True)
    way_out = fields.String(required=True)
    may_retry = fields.Boolean(required=True)
    since = fields.String(required=True, allow_none=True)
    next_try_at = fields.String(required=True, allow_none=True)
    sources = fields.List(fields.Nested(FedBySchema), required=True)
    account = fields.String(required=True, allow_none=True)
    meter_event_name = fields.String(required=True, allow_none=True)
    stripe_customer = fields.String(required=True, allow_none=True)
    pushes = fields.Integer(required=True)
    quantity = fields.String(required=True, allow_none=True)
    currency = fields.String(required=True, allow_none=True)
    amount = fields.String(required=True, allow_none=True)
    amount_minor = fields.Integer(required=True, allow_none=True)
    amount_unknown = fields.String(required=True, allow_none=True)


class StuckAnswerSchema(WireSchema):
    """A page of what is stuck, the largest amount first, and what all of it comes to."""

    total = fields.Integer(required=True)
    at_stake = fields.List(fields.Nested(AtStakeSchema), required=True)
    stuck = fields.List(fields.Nested(StuckSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class RetrySchema(WireSchema):
    """What to try again."""

    tenant_id = TextField(metadata=_TENANT)
    id = TextField(
        required=True,
        validate=validate.Length(min=1, max=4000),
        metadata={"description": "as `GET /v1/stripe/stuck` names it"},
    )


class RetriedSchema(WireSchema):
    """retried: false where it was not stuck any more, or trying cannot help."""

    retried = fields.Boolean(required=True)


class ShadowQuerySchema(WireSchema):
    """Which month, from where on."""

    tenant_id = TextField(metadata=_TENANT)
    period = TextField(
        validate=validate.Regexp(MONTH, error="must be a month such as 2026-11"),
        metadata={"description": "billing periods that end in it (UTC); the current one"},
    )
    limit = fields.Integer(load_default=100, validate=validate.Range(min=1, max=500))
    cursor = TextField(validate=validate.Length(max=4000))


class ShadowFileQuerySchema(WireSchema):
    """Which month."""

    tenant_id = TextField(metadata=_TENANT)
    period = TextField(validate=validate.Regexp(MONTH, error="must be a month such as 2026-11"))


class ShadowSideSchema(WireSchema):
    """One mode of a billing period. owed: what Stripe should have. difference: pushed less owed.
    `off`: nothing leads to Stripe in this mode; `shared`: others feed the same place there.
    unbilled: of what was pushed, what Stripe took after the invoice was final: no invoice bills it,
    and nobody has decided on it yet; `unbilled` is the state of one that agrees but for that."""

    state = fields.String(required=True, validate=validate.OneOf(_STATES))
    reason = fields.String(required=True, allow_none=True)
    owed = fields.String(required=True, allow_none=True)
    pushed = fields.String(required=True)
    confirmed = fields.String(required=True)
    difference = fields.String(required=True, allow_none=True)
    unbilled = fields.String(required=True)


class ComparedSchema(WireSchema):
    """A customer's metric in a billing period. local: what was counted."""

    customer_ref = fields.String(required=True)
    metric = fields.String(required=True)
    period_start = fields.String(required=True)
    period_end = fields.String(required=True)
    local = fields.String(required=True)
    live = fields.Nested(ShadowSideSchema, required=True)
    shadow = fields.Nested(ShadowSideSchema, required=True)
    in_words = fields.String(required=True)


class ShadowSideSumSchema(WireSchema):
    """difference: of the rows that can be compared."""

    pushed = fields.String(required=True)
    confirmed = fields.String(required=True)
    difference = fields.String(required=True)


class ShadowSumSchema(WireSchema):
    """One metric's rows added up."""

    metric = fields.String(required=True)
    rows = fields.Integer(required=True)
    local = fields.String(required=True)
    live = fields.Nested(ShadowSideSumSchema, required=True)
    shadow = fields.Nested(ShadowSideSumSchema, required=True)


class ShadowReportSchema(WireSchema):
    """sumsAreComplete: false where there are more rows than are added up."""

    period = fields.String(required=True)
    sums = fields.List(fields.Nested(ShadowSumSchema), required=True)
    sums_are_complete = fields.Boolean(required=True)
    rows = fields.List(fields.Nested(ComparedSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)
