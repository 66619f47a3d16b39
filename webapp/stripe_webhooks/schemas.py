"""The form of Stripe's webhooks, as far as anything of them is used."""

from marshmallow import INCLUDE, Schema, fields

from webapp.wire import WireSchema


class StripeEventSchema(Schema):
    """An event of Stripe's, as a snapshot (`event`) or thin (`v2.core.event`)."""

    class Meta:
        unknown = INCLUDE

    id = fields.String(required=True)
    object = fields.String(required=True)
    type = fields.String(required=True)
    livemode = fields.Boolean(required=True)


class WebhookAnswerSchema(WireSchema):
    """What became of a webhook that is believed."""

    outcome = fields.String(
        required=True,
        metadata={
            "enum": ["taken", "waiting", "duplicate", "ignored", "unknown_account"],
            "description": (
                "taken: will be handled; waiting: was taken before, will be handled; duplicate: has"
                " been handled; ignored: no event of this type is needed; unknown_account: nobody"
                " here uses that account"
            ),
        },
    )
