"""Keep what we know of Stripe's objects up to date: by its events, and by a full listing a day."""

import logging
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from jobs import stripe_calls, webhooks
from jobs.runtime import config, hints, step
from metering import installation
from metering.errors import ConflictError
from metering.stripe import accounts, connections, listing, schedules
from metering.stripe.faults import StripeFault
from metering.stripe.sync import Place

log = logging.getLogger(__name__)

LISTED_EVERY = timedelta(hours=24)


def look() -> None:
    """Have every connected account looked at: what has happened there, or all of it once a day.

    Only enqueues: a Stripe that is slow to answer must not keep the clock waiting. While Redis is
    away, what webhooks bring is all that is heard.
    """
    with step() as (session, now):
        _bind_own(session, now)
        places = _places(session)
        listed = {
            place: connections.find(session, place.tenant_id, place.mode, place.account_id)
            for place in places
        }
        due = {
            place: connection.listed_at is None or connection.listed_at <= now - LISTED_EVERY
            for place, connection in listed.items()
        }
    for place, is_due in due.items():
        hints().look_at_stripe(place.tenant_id, place.mode, place.account_id, whole=is_due)


def full(tenant_id: str, mode: str, account_id: str) -> None:
    """Read all of an account."""
    place = Place(tenant_id, mode, account_id)
    try:
        counts = listing.full(stripe_calls.driver(), place, step)
    except (StripeFault, ConflictError) as error:
        _note_failure(place, error)
        return
    log.info("read an account of stripe's", extra={"mode": mode, "found": vars(counts)})
    hints().push(tenant_id)


def read_events(tenant_id: str, mode: str, account_id: str) -> None:
    """Take an account's new events, and handle them."""
    place = Place(tenant_id, mode, account_id)
    try:
        taken = listing.read_events(stripe_calls.driver(), place, step)
    except (StripeFault, ConflictError) as error:
        _note_failure(place, error)
        return
    for event_id in taken:
        if not hints().handle_webhook(tenant_id, mode, event_id):
            webhooks.handle(tenant_id, mode, event_id)


def apply_metric(tenant_id: str, metric: str, after: str) -> None:
    """Let the billing periods follow a mapping that was made or changed, stretch by stretch."""
    cursor: str | None = after
    while cursor is not None:
        with step() as (session, now):
            cursor = schedules.apply_for_metric(session, tenant_id, metric, now=now, after=cursor)
    hints().push(tenant_id)


def _bind_own(session: Session, now: datetime) -> None:
    """The keys' own account is the only tenant's without being told."""
    own, tenant_id = config().stripe_account, installation.only_tenant(session)
    if own is not None and tenant_id is not None:
        accounts.ensure_bound(session, tenant_id, own, now=now)


def _places(session: Session) -> list[Place]:
    """Every bound account in every mode that has a key. A test tenant has no live side."""
    keys = {"live": config().stripe_live_key, "test": config().stripe_test_key}
    modes = {tenant.tenant_id: tenant.mode for tenant in installation.tenants(session)}
    return [
        Place(tenant_id, mode, account_id)
        for tenant_id, account_id in installation.bindings(session)
        for mode, key in keys.items()
        if key is not None and (mode == "test" or modes.get(tenant_id) == "live")
    ]


def _note_failure(place: Place, error: StripeFault | ConflictError) -> None:
    log.warning(
        "an account of stripe's could not be read",
        extra={"mode": place.mode, "reason": error.message},
    )
    if isinstance(error, StripeFault) and error.kind == "auth":
        with step() as (session, now):
            connection = connections.find(session, place.tenant_id, place.mode, place.account_id)
            connections.note_refusal(connection, error.message, now=now)
