"""Create in Stripe what a metric needs there: a meter, a product and a metered price.

    make    calls Stripe; no transaction is open
    note    writes down what was made, and the mapping that leads to it

Run twice, it makes nothing twice: what is there already is found, by the meter's event name and by
a mark that the price carries; and each call has a key of its own, the same every time.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from metering.catalog import mappings
from metering.catalog.models import MetricMapping
from metering.errors import ConflictError, InvalidInputError
from metering.stripe import answers, obstacles, schedules, sync, unsent
from metering.stripe.calls import Calls
from metering.stripe.modes import Mode
from metering.stripe.sync import Place
from metering.tenancy import tenants
from pricing import PricingError
from pricing.price import Price, Recurring, from_config, to_config, to_stripe

# The price's metadata that name what it was made of.
MARK = "stripemeter_provision"


@dataclass(frozen=True)
class Wanted:
    """What to make. price: in any model that Stripe's prices know; its recurrence is taken over."""

    metric: str
    event_name: str
    price: Price


@dataclass(frozen=True)
class Made:
    """What is in Stripe now. is_new: which of meter and price were not there before."""

    meter: answers.Meter
    price: answers.Price
    is_new: tuple[bool, bool]


def make(stripe: Calls, place: Place, wanted: Wanted) -> Made:
    """Create what is missing in Stripe.

    Raises: StripeFault; ConflictError for a meter that is there and cannot be used;
            InvalidInputError for a price that Stripe cannot hold.
    """
    mode: Mode = "live" if place.mode == "live" else "test"
    # Said before anything is made: a price that Stripe cannot hold.
    _parameters(wanted, meter_id="mtr_", product_id="prod_")
    mark = _digest(place, wanted)
    meter = _meter(stripe, mode, place.account_id, wanted.event_name)
    is_new_meter = meter is None
    if meter is None:
        meter = stripe.create_meter(
            mode,
            place.account_id,
            display_name=wanted.metric,
            event_name=wanted.event_name,
            idempotency_key=f"{mark}-meter",
        )
    # A meter that was made anew needs a price of its own.
    mark = _digest(place, wanted, meter.id)
    for price in stripe.prices(mode, place.account_id, active=True):
        if (price.json.get("metadata") or {}).get(MARK) == mark and price.meter_id == meter.id:
            return Made(meter, price, (is_new_meter, False))
    product = stripe.create_product(
        mode,
        place.account_id,
        name=wanted.metric,
        idempotency_key=f"{mark}-product",
        metadata={MARK: mark},
    )
    parameters = _parameters(wanted, meter_id=meter.id, product_id=product.id)
    parameters["metadata"] = {MARK: mark}
    price = stripe.create_price(mode, place.account_id, parameters, idempotency_key=f"{mark}-price")
    return Made(meter, price, (is_new_meter, True))


def note(
    session: Session, place: Place, wanted: Wanted, made: Made, *, asked_at: datetime, now: datetime
) -> MetricMapping:
    """Write down meter and price, and map the metric to them: an existing mapping for everyone is
    changed, else one is made.

    Raises: ConflictError where the mapping has pushed elsewhere before.
    """
    sync.note_meters(session, place, [made.meter], now=asked_at)
    sync.note_prices(session, place, [made.price], now=asked_at)
    mapping = _mapped(session, place, wanted, _changes(session, place, wanted, made), now)
    schedules.apply_for_meters(
        session, place.tenant_id, place.mode, place.account_id, {made.meter.id}, now=now
    )
    unsent.mark_metric(
        session, place.tenant_id, wanted.metric, since=mapping.effective_from, now=now
    )
    return mapping


def _mapped(
    session: Session, place: Place, wanted: Wanted, changes: dict[str, Any], now: datetime
) -> MetricMapping:
    """The mapping that leads to the meter: changed, made, or made to follow one that began before
    it led anywhere, for what is past may have been billed by other means."""
    found = _mapping(session, place, wanted, now)
    flag = "is_shadow" if place.mode == "test" else "is_active"
    if found is None:
        flags = {"is_active": _is_active(session, place), "is_shadow": place.mode == "test"}
        given = {"metric": wanted.metric, **flags, **changes}
        return mappings.create(session, place.tenant_id, mappings.id_of(None), given, now=now)
    leads = found.meter_event_name is not None and getattr(found, flag)
    since = mappings.next_full_hour(now)
    if leads or found.effective_from >= since:
        return mappings.edit(
            session, place.tenant_id, found.mapping_id, {flag: True, **changes}, now=now
        )
    follower = {
        "metric": wanted.metric,
        "aggregation": found.aggregation,
        "currency": found.currency,
        "price": None if found.price is None else from_config(found.price),
        "is_active": found.is_active,
        "is_shadow": found.is_shadow,
        "effective_from": since,
        "effective_until": found.effective_until,
    }
    mappings.edit(session, place.tenant_id, found.mapping_id, {"effective_until": since}, now=now)
    given = follower | {flag: True} | changes
    return mappings.create(session, place.tenant_id, mappings.id_of(None), given, now=now)


def _is_active(session: Session, place: Place) -> bool:
    """A test tenant's prices are those of its active mappings, which send nothing."""
    return place.mode == "live" or tenants.get(session, place.tenant_id).mode == "test"


def _changes(session: Session, place: Place, wanted: Wanted, made: Made) -> dict[str, Any]:
    changes: dict[str, Any] = {"meter_event_name": made.meter.event_name}
    if place.mode == "live":
        changes |= {
            "stripe_account": place.account_id,
            "meter_id": made.meter.id,
            "price_id": made.price.id,
        }
    else:
        changes |= {"shadow_stripe_account": place.account_id, "shadow_price_id": made.price.id}
    # What is only a test in test mode changes nothing of what is billed.
    if _is_active(session, place):
        changes["price"] = wanted.price
    return changes


def _mapping(session: Session, place: Place, wanted: Wanted, now: datetime) -> MetricMapping | None:
    """The metric's mapping for everyone that leads to the meter already, or nowhere yet."""
    until = MetricMapping.effective_until
    found = session.scalars(
        select(MetricMapping)
        .where(
            MetricMapping.tenant_id == place.tenant_id,
            MetricMapping.metric == wanted.metric,
            MetricMapping.customer_ref.is_(None),
            MetricMapping.subscription_item_id.is_(None),
            MetricMapping.shadow_subscription_item_id.is_(None),
            or_(until.is_(None), until > now),
            or_(
                MetricMapping.meter_event_name.is_(None),
                MetricMapping.meter_event_name == wanted.event_name,
            ),
        )
        .order_by(MetricMapping.meter_event_name.is_(None), MetricMapping.effective_from)
    )
    return found.first()


def _meter(stripe: Calls, mode: Mode, account_id: str, event_name: str) -> answers.Meter | None:
    """The active meter of the name, of which there can only be one."""
    for meter in stripe.meters(mode, account_id, status="active"):
        if meter.event_name == event_name:
            refused = obstacles.refusal(meter)
            if refused is not None:
                raise ConflictError(refused.reason)
            return meter
    return None


def _parameters(wanted: Wanted, *, meter_id: str, product_id: str) -> dict[str, Any]:
    given = wanted.price.recurring
    recurring = Recurring(
        interval=given.interval if given else "month",
        interval_count=given.interval_count if given else 1,
        usage_type="metered",
        meter=meter_id,
    )
    try:
        return to_stripe(replace(wanted.price, recurring=recurring, product=product_id))
    except PricingError as error:
        raise InvalidInputError(f"Stripe cannot hold this price: {error}") from None


def _digest(place: Place, wanted: Wanted, meter_id: str = "") -> str:
    """The same for the same wish, so that a repeated call is one call to Stripe."""
    said = [
        place.tenant_id, place.mode, place.account_id, wanted.metric, wanted.event_name, meter_id,
        to_config(wanted.price),
    ]  # fmt: skip
    return f"sm-{hashlib.sha256(msgspec.json.encode(said)).hexdigest()[:32]}"
