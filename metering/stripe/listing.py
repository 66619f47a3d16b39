"""Read an account of Stripe's: all of it, or what has happened there since the last look.

Both alternate between calls and short transactions: `step` opens one, and none is open while
Stripe is called. Either may be broken off at any point and run again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import TypeVar

from sqlalchemy.orm import Session

from metering.errors import ConflictError
from metering.stripe import accounts, connections, invoices, sync, webhooks
from metering.stripe.answers import Event
from metering.stripe.calls import Calls
from metering.stripe.faults import StripeFault
from metering.stripe.modes import Mode
from metering.stripe.sync import Place
from metering.stripe.webhooks import Notice

Step = Callable[[], AbstractContextManager[tuple[Session, datetime]]]
Thing = TypeVar("Thing")

BATCH = 100
# Stripe may show an event a little after a later one.
OVERLAP = timedelta(minutes=10)
# Invoices older than this bill nothing that could still be sent.
INVOICES_SINCE = timedelta(days=40)
# Of what `webhooks.SUBJECTS` names, what a look asks for: Stripe takes at most twenty types.
TYPES = (
    "billing.meter.created",
    "billing.meter.deactivated",
    "billing.meter.reactivated",
    "billing.meter.updated",
    "customer.created",
    "customer.deleted",
    "customer.updated",
    "customer.subscription.created",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.resumed",
    "customer.subscription.updated",
    "invoice.created",
    "invoice.deleted",
    "invoice.finalized",
    "invoice.updated",
    "invoice.voided",
    "price.created",
    "price.deleted",
    "price.updated",
)


@dataclass
class Counts:
    """How much a full listing has found."""

    meters: int = 0
    prices: int = 0
    customers: int = 0
    subscriptions: int = 0
    invoices: int = 0


def full(stripe: Calls, place: Place, step: Step) -> Counts:
    """Read everything of an account that we keep, and mark what has gone.

    Raises: StripeFault, or ConflictError if the account is not the tenant's.
    """
    listed_since = _begin(place, step)
    mode, account_id, counts = _mode(place), place.account_id, Counts()
    for meters in _batches(stripe.meters(mode, account_id)):
        with step() as (session, _):
            sync.note_meters(session, place, meters, now=listed_since)
        counts.meters += len(meters)
    for prices in _batches(stripe.prices(mode, account_id)):
        with step() as (session, _):
            sync.note_prices(session, place, prices, now=listed_since)
        counts.prices += len(prices)
    for customers in _batches(stripe.customers(mode, account_id)):
        with step() as (session, _):
            sync.note_customers(session, place, customers, now=listed_since)
        counts.customers += len(customers)
    for subscriptions in _batches(stripe.subscriptions(mode, account_id)):
        with step() as (session, now):
            sync.note_subscriptions(session, place, subscriptions, now=listed_since)
            for subscription in subscriptions:
                invoices.apply_known(session, place, subscription.id, now=now)
        counts.subscriptions += len(subscriptions)
    since = listed_since - INVOICES_SINCE
    for found in _batches(stripe.invoices(mode, account_id, created_since=since)):
        with step() as (session, now):
            invoices.note(session, place, found, asked_at=listed_since, now=now)
        counts.invoices += len(found)
    with step() as (session, now):
        sync.finish_listing(session, place, listed_since=listed_since)
        connection = connections.find(session, place.tenant_id, place.mode, account_id)
        connections.note_reading(session, connection, now=now)
        connection.listed_at = listed_since
        if connection.events_read_at is None:
            connection.events_read_at = listed_since
    return counts


def read_events(stripe: Calls, place: Place, step: Step) -> list[str]:
    """Take what has happened since the last look, as if webhooks had brought it.

    Returns: the ids of events that are new and are to be handled.
    Raises:  StripeFault, or ConflictError if the account is not the tenant's.
    """
    asked_at = _begin(place, step)
    with step() as (session, _):
        connection = connections.find(session, place.tenant_id, place.mode, place.account_id)
        after, read_at = connection.last_event, connection.events_read_at
    taken: list[str] = []
    last = after
    for events in _batches(_since(stripe, place, after, (read_at or asked_at) - OVERLAP)):
        with step() as (session, now):
            for event in events:
                notice = Notice(
                    event.id, event.type, place.mode, place.account_id, _object_id(event.object)
                )
                if notice.subject is None:
                    continue
                if webhooks.take(session, place.tenant_id, notice, place.account_id, now=now) == (
                    "taken"
                ):
                    taken.append(event.id)
        last = events[-1].id
    with step() as (session, now):
        connection = connections.find(session, place.tenant_id, place.mode, place.account_id)
        connections.note_reading(session, connection, now=now)
        connection.last_event, connection.events_read_at = last, asked_at
    return taken


def _since(stripe: Calls, place: Place, after: str | None, since: datetime) -> Iterator[Event]:
    mode, account_id = _mode(place), place.account_id
    if after is not None:
        try:
            yield from stripe.events(mode, account_id, after=after, types=TYPES)
        except StripeFault as fault:
            # Stripe keeps events for 30 days, and has forgotten the one that we read last.
            if fault.kind != "gone":
                raise
        else:
            return
    yield from stripe.events(mode, account_id, since=since, types=TYPES)


def _begin(place: Place, step: Step) -> datetime:
    """The instant before the first call; ConflictError if nothing may be called."""
    with step() as (session, now):
        refused = accounts.ensure_bound(session, place.tenant_id, place.account_id, now=now)
    if refused is not None:
        raise ConflictError(refused)
    return now


def _object_id(obj: Mapping[str, object]) -> str | None:
    named = obj.get("id")
    return named if isinstance(named, str) else None


def _mode(place: Place) -> Mode:
    return "live" if place.mode == "live" else "test"


def _batches(things: Iterable[Thing]) -> Iterator[list[Thing]]:
    """Lists of a page's length; the next page is asked for when the one before is written."""
    source = iter(things)
    while batch := list(islice(source, BATCH)):
        yield batch
