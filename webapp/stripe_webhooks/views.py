"""POST /v1/stripe/webhook: the door for what Stripe tells us unasked."""

from flask import Blueprint, Response, g, request

from metering import installation
from metering.database import after_commit, unit_of_work
from metering.errors import DomainError
from metering.stripe import signature, webhooks
from metering.stripe.webhooks import Notice
from webapp import body as request_body
from webapp import runtime, telemetry, wire
from webapp.endpoint import Contract, declare, refuse_query
from webapp.extensions import db
from webapp.problems import ProblemError
from webapp.stripe_webhooks.schemas import StripeEventSchema, WebhookAnswerSchema

blueprint = Blueprint("stripe_webhooks", __name__, url_prefix="/v1/stripe")

MAX_BODY_BYTES = 1024 * 1024


@blueprint.post("/webhook")
def receive() -> Response:
    """Take an event of Stripe's; safe to send again, in any order.

    The body must be signed with a webhook secret that is configured here, no longer than five
    minutes ago. An event is only a reason to look at its object again: nothing else of it is
    used. What concerns an account that nobody here uses is answered with a 200 and dropped, so
    that Stripe does not send it for ever.
    """
    body = request_body.read_raw(request, MAX_BODY_BYTES)
    refuse_query()
    try:
        notice = _believed(body)
    except DomainError as error:
        telemetry.WEBHOOKS.labels("refused").inc()
        raise ProblemError(400, f"This webhook is refused: {error.message}.") from None
    outcome = _take(notice)
    telemetry.WEBHOOKS.labels(outcome).inc()
    return wire.answer({"outcome": outcome})


declare(
    receive,
    Contract(
        summary="Stripe's webhooks: signed, taken once, in any order",
        scope=None,
        body=StripeEventSchema,
        answer=WebhookAnswerSchema,
        statuses=(400, 413, 422, 503),
        tag="Stripe",
        why_open="signed by Stripe, whose account tells the tenant",
        headers={"Stripe-Signature": "t=<unix seconds>,v1=<HMAC-SHA256 by a webhook secret>"},
    ),
)


def _believed(body: bytes) -> Notice:
    """What the webhook is about, if Stripe sent it. Raises DomainError if it did not."""
    config = runtime.current().config
    secrets = {
        "live": _each(config.stripe_webhook_secret_live),
        "test": _each(config.stripe_webhook_secret_test),
    }
    mode = signature.mode_of(body, request.headers.get("Stripe-Signature"), secrets, now=g.now)
    notice = webhooks.read(body)
    if notice.mode != mode:
        raise signature.SignatureError(
            f"a {notice.mode} event is signed with the secret for {mode} events"
        )
    return notice


def _each(secrets: str | None) -> list[str]:
    """While a secret is being rolled there are two, divided by a comma."""
    return secrets.split(",") if secrets else []


def _take(notice: Notice) -> str:
    account_id = notice.account_id or runtime.current().config.stripe_account
    if notice.subject is None:
        return "ignored"
    with unit_of_work(db.session()) as session:
        tenant_id = account_id and installation.tenant_of_account(session, account_id)
        if not account_id or not tenant_id:
            return "unknown_account"
        g.tenant_id = tenant_id
        outcome = webhooks.take(session, tenant_id, notice, account_id, now=g.now)
        if outcome != "duplicate":
            hints = runtime.current().hints
            after_commit(
                session, lambda: hints.handle_webhook(tenant_id, notice.mode, notice.event_id)
            )
    return outcome
