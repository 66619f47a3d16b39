"""Where in Stripe a mapping leads, as far as the mapping and what we know of Stripe say."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.catalog.mirror import StripeMeter, StripePrice
from metering.catalog.models import MetricMapping

NAMES = ("meter_event_name", "meter_id", "price_id", "shadow_price_id")
# What a mapping that usage went by means, and that therefore cannot change.
PINNED = (
    "aggregation",
    "meter_event_name",
    "meter_id",
    "stripe_account",
    "shadow_stripe_account",
    "effective_from",
)


def leads_somewhere(mapping: MetricMapping) -> bool:
    """Whether the mapping names a place in Stripe; else it only prices."""
    return any(getattr(mapping, name) is not None for name in NAMES)


def complete(session: Session, mapping: MetricMapping) -> None:
    """Write down the event's name of the meter that is named, or whose price is, where it is
    known: usage is sent to the name."""
    if mapping.meter_event_name is None:
        mapping.meter_event_name = _event_name(session, mapping)


def are_apart(one: MetricMapping, other: MetricMapping) -> bool:
    """Whether two mappings certainly lead to different meters."""
    for name in ("stripe_account", "meter_event_name", "meter_id"):
        mine, theirs = getattr(one, name), getattr(other, name)
        if mine is not None and theirs is not None and mine != theirs:
            return True
    return False


def _event_name(session: Session, mapping: MetricMapping) -> str | None:
    meter_ids: set[str | None] = set()
    if mapping.meter_id is not None:
        meter_ids.add(mapping.meter_id)
    price_ids = {mapping.price_id, mapping.shadow_price_id} - {None}
    if not meter_ids and price_ids:
        found = session.scalars(
            select(StripePrice.meter_id).where(
                StripePrice.tenant_id == mapping.tenant_id,
                StripePrice.price_id.in_(sorted(str(price_id) for price_id in price_ids)),
            )
        )
        meter_ids = set(found.all()) - {None}
    names = session.scalars(
        select(StripeMeter.event_name)
        .where(
            StripeMeter.tenant_id == mapping.tenant_id,
            StripeMeter.meter_id.in_(sorted(str(meter_id) for meter_id in meter_ids)),
        )
        .distinct()
    ).all()
    # The prices of two modes may, by mistake, lead to two names: then neither is meant.
    return names[0] if len(names) == 1 else None
