"""What Stripe said of its objects, written down: never an older answer over a newer one.

The functions take what the driver has already fetched; `now` is the instant at which Stripe was
asked, so that nothing depends on the order in which answers, events or listings arrive. What has
gone in Stripe is marked, not dropped: usage was billed by it. Whatever follows from a change
(billing periods, segments to look at again) is done in the same transaction, under the tenant's
lock.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Row, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from metering.catalog.mirror import (
    StripeCustomer,
    StripeInvoice,
    StripeMeter,
    StripePrice,
    SubscriptionItem,
)
from metering.database import Base
from metering.stripe import answers, schedules
from metering.stripe.destinations import DEAD
from metering.tenancy import locks
from pricing import PricingError
from pricing.price import from_stripe, to_config

REF = "stripemeter_customer_ref"
LONGEST_REF = 255
Kind = Literal["customer", "invoice", "meter", "price", "subscription"]


@dataclass(frozen=True)
class Place:
    """What Stripe keeps apart, seen from a tenant: an account in a mode."""

    tenant_id: str
    mode: str
    account_id: str

    @property
    def columns(self) -> dict[str, str]:
        return {"tenant_id": self.tenant_id, "mode": self.mode, "account_id": self.account_id}


def note_meters(
    session: Session, place: Place, meters: Sequence[answers.Meter], *, now: datetime
) -> None:
    """Write down meters; usage that had nowhere to go may now have somewhere, or no longer."""
    locks.lock(session, place.tenant_id)
    rows = [
        {
            "meter_id": meter.id,
            "event_name": meter.event_name,
            "formula": meter.formula,
            "event_time_window": meter.window,
            "is_active": meter.is_active,
        }
        for meter in meters
    ]
    changed = _write(session, StripeMeter, place, rows, now)
    schedules.apply_for_meters(session, *_of(place), changed, now=now)


def note_prices(
    session: Session, place: Place, prices: Sequence[answers.Price], *, now: datetime
) -> None:
    """Write down prices, retrieved with their tiers; one that we cannot read keeps the reason."""
    locks.lock(session, place.tenant_id)
    rows = [
        {
            "price_id": price.id,
            "meter_id": price.meter_id,
            "currency": price.currency,
            "is_active": price.is_active,
            **_definition(price),
        }
        for price in prices
    ]
    changed = _write(session, StripePrice, place, rows, now)
    meters = {price.meter_id for price in prices if price.id in changed and price.meter_id}
    schedules.apply_for_meters(session, *_of(place), meters, now=now)


def unknown_prices(
    session: Session, place: Place, subscriptions: Iterable[answers.Subscription]
) -> list[str]:
    """The prices of these subscriptions that were never read: they are to be retrieved, for those
    within a subscription come without their tiers."""
    named = {item.price.id for each in subscriptions for item in each.items}
    known = session.scalars(
        select(StripePrice.price_id).where(
            *_at(StripePrice, place), StripePrice.price_id.in_(sorted(named))
        )
    )
    return sorted(named - set(known))


def note_subscriptions(
    session: Session, place: Place, subscriptions: Sequence[answers.Subscription], *, now: datetime
) -> None:
    """Write down the items on meters, and let the billing periods follow from what changed.

    An item that its subscription no longer has ended at `now`, if not before.
    """
    if not subscriptions:
        return
    locks.lock(session, place.tenant_id)
    ids = sorted(each.id for each in subscriptions)
    before = {item.item_id: item for item in session.execute(_items(place, ids))}
    rows = [
        _item_row(subscription, item, before.get(item.id), now)
        for subscription in subscriptions
        for item in subscription.items
        if item.price.is_metered
    ]
    _write(session, SubscriptionItem, place, rows, now)
    session.execute(
        update(SubscriptionItem)
        .where(
            *_at(SubscriptionItem, place),
            SubscriptionItem.subscription_id.in_(ids),
            SubscriptionItem.item_id.not_in([row["item_id"] for row in rows]),
            SubscriptionItem.ended_at.is_(None),
            SubscriptionItem.fetched_at <= now,
        )
        .values(ended_at=now, fetched_at=now)
        .execution_options(synchronize_session=False)
    )
    after = {item.item_id: item for item in session.execute(_items(place, ids))}
    changed = [
        (before.get(item_id), item)
        for item_id, item in sorted(after.items())
        if item_id not in before or _content(before[item_id]) != _content(item)
    ]
    leads = {
        (customer, meter_id)
        for pair in changed
        for item in pair
        if item is not None
        for customer, meter_id in [(item.stripe_customer, item.meter_id)]
        if meter_id is not None
    }
    schedules.apply(session, *_of(place), leads, now=now)


def note_customers(
    session: Session, place: Place, customers: Sequence[answers.Customer], *, now: datetime
) -> None:
    """Write down whose customer of ours each is; deleted ones keep whose they were."""
    locks.lock(session, place.tenant_id)
    ids = [customer.id for customer in customers]
    statement = select(StripeCustomer.__table__).where(
        *_at(StripeCustomer, place), StripeCustomer.stripe_customer.in_(ids)
    )
    before = {row.stripe_customer: row for row in session.execute(statement)}
    rows: list[dict[str, Any]] = [
        {
            "stripe_customer": customer.id,
            "customer_ref": _ref(customer.metadata)
            if not customer.is_deleted
            else getattr(before.get(customer.id), "customer_ref", None),
            "is_deleted": customer.is_deleted,
        }
        for customer in customers
    ]
    written = _write(session, StripeCustomer, place, rows, now)
    refs: set[str | None] = set()
    for row in rows:
        was = before.get(row["stripe_customer"])
        said = (getattr(was, "customer_ref", None), getattr(was, "is_deleted", False))
        if row["stripe_customer"] in written and said != (row["customer_ref"], row["is_deleted"]):
            refs |= {said[0], row["customer_ref"]}
    for ref in sorted(ref for ref in refs if ref is not None):
        schedules.apply_for_customer(session, place.tenant_id, ref, now=now)


def note_invoices(
    session: Session, place: Place, invoices: Sequence[answers.Invoice], *, now: datetime
) -> list[str]:
    """Write down until when usage still reaches each invoice; what follows for the periods is said
    by `invoices.note`. Returns: the ids of those that were not known from a later answer."""
    rows = [
        {
            "invoice_id": invoice.id,
            "stripe_customer": invoice.customer_id,
            "subscription_id": invoice.subscription_id,
            "status": invoice.status or "draft",
            "period_start": invoice.period_start,
            "period_end": invoice.period_end,
            "finalizes_at": invoice.finalizes_at,
            "finalized_at": invoice.finalized_at,
        }
        for invoice in invoices
        if invoice.id is not None
    ]
    return sorted(_write(session, StripeInvoice, place, rows, now))


def note_gone(session: Session, place: Place, kind: Kind, object_id: str, *, now: datetime) -> None:
    """Stripe knows no such object (any more): mark what we know of it."""
    locks.lock(session, place.tenant_id)
    if kind == "subscription":
        _end_items(session, place, SubscriptionItem.subscription_id == object_id, now)
    elif kind == "customer":
        gone = answers.Customer(object_id, None, None, is_deleted=True, metadata={})
        note_customers(session, place, [gone], now=now)
        _end_items(session, place, SubscriptionItem.stripe_customer == object_id, now)
    else:
        model, id_column, state = _STATES[kind]
        statement = (
            update(model)
            .where(*_at(model, place), id_column == object_id, model.fetched_at <= now)
            .values(fetched_at=now, **state)
        )
        session.execute(statement.execution_options(synchronize_session=False))
        if kind == "meter":
            schedules.apply_for_meters(session, *_of(place), {object_id}, now=now)


def finish_listing(session: Session, place: Place, *, listed_since: datetime) -> None:
    """Mark what a full listing, begun at `listed_since`, did not show: it has gone."""
    locks.lock(session, place.tenant_id)
    kinds: tuple[tuple[Kind, Any, Any], ...] = (
        ("meter", StripeMeter, StripeMeter.meter_id),
        ("price", StripePrice, StripePrice.price_id),
    )
    for kind, model, id_column in kinds:
        unseen = session.scalars(
            select(id_column).where(
                *_at(model, place), model.fetched_at < listed_since, model.is_active
            )
        )
        for object_id in unseen.all():
            note_gone(session, place, kind, object_id, now=listed_since)
    unseen_customers = session.scalars(
        select(StripeCustomer.stripe_customer).where(
            *_at(StripeCustomer, place),
            StripeCustomer.fetched_at < listed_since,
            StripeCustomer.is_deleted.is_(False),
        )
    )
    for customer in unseen_customers.all():
        note_gone(session, place, "customer", customer, now=listed_since)
    _end_items(session, place, SubscriptionItem.fetched_at < listed_since, listed_since)


_STATES: Mapping[str, tuple[Any, Any, Mapping[str, Any]]] = {
    "meter": (StripeMeter, StripeMeter.meter_id, {"is_active": False}),
    "price": (StripePrice, StripePrice.price_id, {"is_active": False}),
    "invoice": (StripeInvoice, StripeInvoice.invoice_id, {"status": "deleted"}),
}


def _end_items(session: Session, place: Place, which: Any, at: datetime) -> None:
    """The items end at the instant, and with them the billing periods they are in."""
    ended = session.execute(
        update(SubscriptionItem)
        .where(
            *_at(SubscriptionItem, place),
            which,
            SubscriptionItem.ended_at.is_(None),
            SubscriptionItem.fetched_at <= at,
        )
        .values(ended_at=at, fetched_at=at, status="canceled")
        .returning(SubscriptionItem.stripe_customer, SubscriptionItem.meter_id)
        .execution_options(synchronize_session=False)
    ).all()
    leads = {(customer, meter_id) for customer, meter_id in ended if meter_id is not None}
    schedules.apply(session, *_of(place), leads, now=at)


def _definition(price: answers.Price) -> dict[str, Any]:
    try:
        return {"definition": to_config(from_stripe(price.json)), "unreadable": None}
    except PricingError as error:
        return {"definition": None, "unreadable": str(error)}


def _item_row(
    subscription: answers.Subscription, item: answers.Item, was: Row[Any] | None, now: datetime
) -> dict[str, Any]:
    began_with_it = item.created_at <= subscription.created_at
    ended_at = subscription.ended_at
    if ended_at is None and subscription.status in DEAD:
        ended_at = subscription.canceled_at
    return {
        "item_id": item.id,
        "subscription_id": subscription.id,
        "stripe_customer": subscription.customer_id,
        "price_id": item.price.id,
        "meter_id": item.price.meter_id,
        "status": subscription.status,
        "recurring_interval": item.price.interval or "month",
        "interval_count": item.price.interval_count,
        "anchor_at": subscription.anchor_at,
        "current_start": item.current_start,
        "current_end": item.current_end,
        "started_at": subscription.started_at if began_with_it else item.created_at,
        "ended_at": ended_at,
        "cancel_at": subscription.cancel_at,
        "trial_end": subscription.trial_end,
        "is_paused": subscription.is_paused,
        "past_prices": _past_prices(item, was, now),
    }


def _past_prices(item: answers.Item, was: Row[Any] | None, now: datetime) -> list[dict[str, str]]:
    """Stripe does not say since when a price holds: since the period began, or since just now."""
    if was is None:
        return []
    past: list[dict[str, str]] = list(was.past_prices)
    if was.price_id != item.price.id and was.fetched_at <= now:
        is_renewed = item.current_start > was.current_start
        until = item.current_start if is_renewed else now.replace(microsecond=0)
        past.append({"until": until.isoformat(), "price_id": was.price_id})
    return past


def _items(place: Place, subscription_ids: Sequence[str]) -> Any:
    return select(SubscriptionItem.__table__).where(
        *_at(SubscriptionItem, place), SubscriptionItem.subscription_id.in_(subscription_ids)
    )


def _content(row: Row[Any]) -> dict[str, Any]:
    return {name: value for name, value in row._mapping.items() if name != "fetched_at"}


def _ref(metadata: Mapping[str, str]) -> str | None:
    """The ref of ours that a customer's metadata name, if it can be one."""
    ref = metadata.get(REF)
    if not ref or len(ref) > LONGEST_REF or "\x00" in ref:
        return None
    return ref


def _of(place: Place) -> tuple[str, str, str]:
    return place.tenant_id, place.mode, place.account_id


def _at(model: Any, place: Place) -> tuple[Any, ...]:
    return (
        model.tenant_id == place.tenant_id,
        model.mode == place.mode,
        model.account_id == place.account_id,
    )


def _write(
    session: Session,
    model: type[Base],
    place: Place,
    rows: Sequence[Mapping[str, Any]],
    now: datetime,
) -> set[str]:
    """Upsert rows of one table in one statement. Returns: the ids of those that were not known
    from a later answer."""
    table = Base.metadata.tables[model.__tablename__]
    if not rows:
        return set()
    keys = [column.name for column in table.primary_key.columns]
    id_column = keys[-1]
    # In the order of their keys: two writers then never wait for each other.
    by_id = {row[id_column]: row for row in sorted(rows, key=lambda row: str(row[id_column]))}
    statement = insert(table).values(
        [place.columns | dict(row) | {"fetched_at": now} for row in by_id.values()]
    )
    changes = {c.name: statement.excluded[c.name] for c in table.columns if c.name not in keys}
    statement = statement.on_conflict_do_update(
        index_elements=keys,
        set_=changes,
        where=table.c.fetched_at <= statement.excluded.fetched_at,
    )
    written = session.execute(statement.returning(table.c[id_column])).scalars()
    return set(written.all())
