"""Mappings: which price a metric has, from when to when, and where in Stripe it belongs."""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from metering.catalog import metrics, overlap, places
from metering.catalog.models import MetricMapping
from metering.catalog.period import hour_of
from metering.errors import ConflictError, InvalidInputError, NotFoundError
from pricing import PricingError, money
from pricing.price import Price, from_config, to_config


def id_of(request_key: str | None) -> str:
    """A new mapping's id: random, or made from the request's name: a repetition finds it."""
    if request_key is None:
        return f"map_{secrets.token_hex(12)}"
    return f"map_{hashlib.sha256(request_key.encode()).hexdigest()[:24]}"


def get(session: Session, tenant_id: str, mapping_id: str) -> MetricMapping:
    """The mapping, or NotFoundError."""
    found = session.scalar(
        select(MetricMapping).where(
            MetricMapping.tenant_id == tenant_id, MetricMapping.mapping_id == mapping_id
        )
    )
    if found is None:
        raise NotFoundError("there is no mapping of this id")
    return found


def listed(
    session: Session,
    tenant_id: str,
    *,
    metric: str | None = None,
    customer_ref: str | None = None,
    after: MetricMapping | None = None,
    limit: int,
) -> Sequence[MetricMapping]:
    """The tenant's mappings by metric and time, the ended ones among them."""
    order = (MetricMapping.metric, MetricMapping.effective_from, MetricMapping.mapping_id)
    statement = select(MetricMapping).where(MetricMapping.tenant_id == tenant_id)
    if metric is not None:
        statement = statement.where(MetricMapping.metric == metric)
    if customer_ref is not None:
        statement = statement.where(MetricMapping.customer_ref == customer_ref)
    if after is not None:
        last = (after.metric, after.effective_from, after.mapping_id)
        statement = statement.where(tuple_(*order) > last)
    return session.scalars(statement.order_by(*order).limit(limit)).all()


def create(
    session: Session,
    tenant_id: str,
    mapping_id: str,
    wanted: Mapping[str, Any],
    *,
    now: datetime,
) -> MetricMapping:
    """Map a metric, making the metric if it is new.

    wanted: attributes by name, `metric` among them; `price` as a Price.  effective_from: the next
            full hour where none is given.  is_active: as long as it is not only a shadow.
    Raises: InvalidInputError, or ConflictError where another mapping stands in the way.
    """
    mapping = MetricMapping(
        tenant_id=tenant_id,
        mapping_id=mapping_id,
        metric=wanted["metric"],
        customer_ref=wanted.get("customer_ref"),
        is_active=not wanted.get("is_shadow", False),
        is_shadow=False,
        effective_from=next_full_hour(now),
        created_at=now,
    )
    # Also the lock: of one metric's mappings, one is looked at and written at a time.
    metrics.edit(session, tenant_id, mapping.metric, {}, now=now)
    if session.get(MetricMapping, (tenant_id, mapping_id)) is not None:
        raise ConflictError("this Idempotency-Key named another request long ago; take a new one")
    _apply(mapping, wanted, now)
    session.add(mapping)
    _check(session, mapping)
    return mapping


def edit(
    session: Session,
    tenant_id: str,
    mapping_id: str,
    changes: Mapping[str, Any],
    *,
    now: datetime,
) -> MetricMapping:
    """Change the named attributes. What a mapping is of, its metric and customer, stays.

    A new price is the price of all of the mapping's time: a price that changes over time is a
    mapping that ends and another that begins.
    """
    mapping = _locked(session, tenant_id, mapping_id, now)
    for name in ("metric", "customer_ref"):
        if name in changes and changes[name] != getattr(mapping, name):
            raise InvalidInputError(
                "cannot change: end this mapping and create another", pointer=_POINTER[name]
            )
    _refuse_new_meaning(mapping, changes, now)
    _apply(mapping, changes, now)
    _check(session, mapping)
    return mapping


def end(session: Session, tenant_id: str, mapping_id: str, *, now: datetime) -> MetricMapping:
    """End the mapping now, or before it begins; what has ended already stays as it is."""
    mapping = _locked(session, tenant_id, mapping_id, now)
    last = max(mapping.effective_from, now)
    if mapping.effective_until is None or mapping.effective_until > last:
        mapping.effective_until, mapping.updated_at = last, now
        session.flush()
    return mapping


def next_full_hour(now: datetime) -> datetime:
    """The first full hour that is not past: usage is kept by the hour."""
    floor = hour_of(now)
    return floor if floor == now else floor + timedelta(hours=1)


_POINTER = {
    "metric": "/metric",
    "customer_ref": "/customerRef",
    "aggregation": "/aggregation",
    "meter_event_name": "/meterEventName",
    "meter_id": "/meterId",
    "stripe_account": "/stripeAccount",
    "shadow_stripe_account": "/shadowStripeAccount",
    "effective_from": "/effectiveFrom",
    "effective_until": "/effectiveUntil",
    "is_active": "/active",
    "is_shadow": "/shadow",
    "price_id": "/priceId",
    "shadow_price_id": "/shadowPriceId",
}


def _refuse_new_meaning(mapping: MetricMapping, changes: Mapping[str, Any], now: datetime) -> None:
    """What was sent by a mapping stays meant by it; and none starts to send what is past, which
    other code may have sent already: only a new one asks Stripe (`openingTotal`)."""
    changed = [name for name in _POINTER if name in changes]
    changed = [name for name in changed if changes[name] != getattr(mapping, name)]
    if mapping.pushed_at is not None:
        _refuse_of_pushed(mapping, changes, changed, now)
    since = changes.get("effective_from", mapping.effective_from)
    leads = any(changes.get(name, getattr(mapping, name)) is not None for name in places.NAMES)
    this_hour = hour_of(now)
    if not leads or since >= now:
        return
    for name in changed:
        # Also of one that has pushed: a shadow's test pushes say nothing of the live side.
        starts = name in ("is_active", "is_shadow") and changes[name]
        # Beside the event's name, the other ids only say which price and meter those are.
        is_led = "meter_event_name" not in changed and mapping.meter_event_name is not None
        moves = name in places.NAMES and changes[name] is not None and not is_led
        earlier = name == "effective_from" and since < mapping.effective_from
        ended = mapping.effective_until
        revives = name == "effective_until" and ended is not None and ended < this_hour
        if starts or moves or earlier or (revives and _is_later(changes[name], ended)):
            raise ConflictError(
                "this mapping begins in the past, and would send what Stripe may have from"
                " elsewhere: end it and create another, which asks Stripe for its total first",
                pointer=_POINTER[name],
            )


def _is_later(until: datetime | None, than: datetime | None) -> bool:
    return until is None or (than is not None and until > than)


def _refuse_of_pushed(
    mapping: MetricMapping, changes: Mapping[str, Any], changed: Sequence[str], now: datetime
) -> None:
    for name in places.PINNED:
        if name in changed:
            raise ConflictError(
                "cannot change: usage has gone to Stripe by this mapping; end it and create"
                " another",
                pointer=_POINTER[name],
            )
    # Sent usage that no mapping covers any more would be taken back from some streams (those that
    # others feed as well) and left in others.
    until = changes.get("effective_until")
    is_cut = "effective_until" in changed and until is not None and until < now
    is_off = "is_active" in changed and not changes["is_active"]
    if is_off or (is_cut and _is_later(mapping.effective_until, until)):
        raise ConflictError(
            "usage has gone to Stripe by this mapping, and stays there: end it, which takes effect"
            " now",
            pointer="/active" if is_off else "/effectiveUntil",
        )


def _locked(session: Session, tenant_id: str, mapping_id: str, now: datetime) -> MetricMapping:
    """The mapping as it is now that nobody else can change its metric's."""
    mapping = get(session, tenant_id, mapping_id)
    metrics.edit(session, tenant_id, mapping.metric, {}, now=now)
    session.refresh(mapping)
    return mapping


def _apply(mapping: MetricMapping, changes: Mapping[str, Any], now: datetime) -> None:
    for name, value in changes.items():
        if name not in ("price", "currency"):
            setattr(mapping, name, value)
    mapping.updated_at = now
    until = mapping.effective_until
    is_dated = "effective_from" in changes or "effective_until" in changes
    if is_dated and until is not None and until <= mapping.effective_from:
        raise InvalidInputError("must lie after effectiveFrom", pointer="/effectiveUntil")
    if "price" in changes or "currency" in changes:
        _apply_price(mapping, changes)


def _apply_price(mapping: MetricMapping, changes: Mapping[str, Any]) -> None:
    """Set price and currency together: the currency billed must be one that the price has."""
    price: Price | None = changes.get("price")
    if "price" not in changes and mapping.price is not None:
        price = from_config(mapping.price)
    # What is not named stays: a new price does not change the currency that is billed.
    code = changes.get("currency", mapping.currency)
    try:
        if code is not None:
            code = money.currency(code).code
        if price is not None:
            price.in_currency(code or price.currency.code)
    except PricingError as error:
        raise InvalidInputError(f"currency: {error.reason}", pointer="/currency") from None
    if price is not None:
        mapping.currency = code or price.currency.code
    elif "currency" in changes:
        mapping.currency = code
    mapping.price = None if price is None else to_config(price)


def _check(session: Session, mapping: MetricMapping) -> None:
    """Write the mapping, then see whether what is there besides lets it stand."""
    places.complete(session, mapping)
    session.flush()
    if mapping.aggregation == "unique":
        metric = metrics.get(session, mapping.tenant_id, mapping.metric)
        if not metric.unique_enabled:
            raise InvalidInputError(
                "unique counts of this metric are not kept; switch them on first, with"
                f' {{"unique": true}} to /v1/metrics/{mapping.metric}',
                pointer="/aggregation",
            )
    overlap.refuse(session, mapping)
