"""Handle events of Stripe's that were taken at the door."""

import logging
import time
from datetime import timedelta

from jobs import stripe_calls
from jobs.runtime import hints, step
from metering import installation
from metering.stripe import asking, webhooks
from metering.stripe.faults import StripeFault
from metering.stripe.webhooks import Delivery

log = logging.getLogger(__name__)

# What no hint has reached within this time is taken up by the sweep.
PATIENCE_SECONDS = 10
MOST = 200
RUN_SECONDS = 10.0


def handle(tenant_id: str, mode: str, event_id: str) -> None:
    """Ask Stripe for what the event is about, and write down what it says."""
    with step() as (session, asked_at):
        delivery = webhooks.claim(session, tenant_id, mode, event_id, now=asked_at)
    if delivery is None:
        return
    try:
        answer = asking.ask(stripe_calls.driver(), delivery)
        with step() as (session, _):
            price_ids = asking.unknown_prices(session, delivery, answer)
        answer = asking.with_prices(stripe_calls.driver(), delivery, answer, price_ids)
    except StripeFault as fault:
        _fail(delivery, fault)
        return
    with step() as (session, now):
        asking.note(session, delivery, answer, asked_at=asked_at, now=now)
        webhooks.finish(session, delivery, asked_at=asked_at, now=now)
    hints().push(tenant_id)


def _fail(delivery: Delivery, fault: StripeFault) -> None:
    log.warning(
        "a webhook could not be handled yet",
        extra={"event": delivery.event_id, "kind": fault.kind, "reason": fault.message},
    )
    with step() as (session, _):
        webhooks.fail(session, delivery, fault.message)


def sweep() -> None:
    """Take up what was never begun, or failed; here, while Redis is away."""
    started = time.monotonic()
    with step() as (session, now):
        waiting = installation.webhooks_waiting(
            session, due_before=now - timedelta(seconds=PATIENCE_SECONDS), most=MOST
        )
    for tenant_id, mode, event_id in waiting:
        if hints().handle_webhook(tenant_id, mode, event_id):
            continue
        if time.monotonic() - started > RUN_SECONDS:
            return
        handle(tenant_id, mode, event_id)
