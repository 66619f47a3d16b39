"""What is held is never forgotten: found by a review that looked for lost usage."""

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.catalog import customers, mappings
from metering.catalog.models import MetricMapping
from metering.database import unit_of_work
from metering.stripe import schedules, unsent
from metering.stripe.models import Held
from tests.metering.stripe.conftest import AT
from tests.metering.stripe.test_deltas import NOON, use
from tests.stripe_setup import (
    Connected,
    FakeStripe,
    add_mapping,
    add_meter,
    connect,
    push_all,
)

HOUR = timedelta(hours=1)


def told(session: Session, acme: Connected, ref: str, *, now: datetime, **changes: object) -> None:
    """As the API does."""
    with unit_of_work(session):
        customers.edit(session, acme.tenant_id, ref, changes, now=now)
        schedules.apply_for_customer(session, acme.tenant_id, ref, now=now)


def kinds_held(session: Session, acme: Connected) -> list[tuple[str, str]]:
    found = session.execute(
        select(Held.customer_ref, Held.kind)
        .where(Held.tenant_id == acme.tenant_id)
        .order_by(Held.customer_ref)
    )
    return [(ref, kind) for ref, kind in found]


def edit(session: Session, mapping: MetricMapping, *, now: datetime, **changes: object) -> None:
    """As the API does."""
    with unit_of_work(session):
        mappings.edit(session, mapping.tenant_id, mapping.mapping_id, changes, now=now)
        schedules.apply_for_metric(session, mapping.tenant_id, mapping.metric, now=now)
        unsent.mark_metric(
            session, mapping.tenant_id, mapping.metric, since=mapping.effective_from, now=now
        )


def test_usage_after_an_obstacle_does_not_make_what_is_held_forgotten(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    """One hour has nowhere to go, the next one has: the first stays held, whichever is looked at
    last."""
    add_meter(session, acme, "broken", is_active=False)
    first = add_mapping(
        session, acme, meter_event_name="broken", effective_from=NOON - 5 * HOUR, metric="seats"
    )
    edit(session, first, now=AT, effective_until=NOON)
    add_mapping(session, acme, meter_event_name="api_calls", effective_from=NOON, metric="seats")
    use(session, acme, (3, NOON - HOUR), (4, NOON), metric="seats")
    later = push_all(session, acme, stripe, now=AT)
    use(session, acme, (1, NOON), metric="seats")
    later = push_all(session, acme, stripe, now=later)
    assert stripe.total() == 5
    assert kinds_held(session, acme) == [("cus_1", "meter_inactive")]
    add_meter(session, acme, "broken", is_active=True)
    with unit_of_work(session):
        unsent.release_due(session, acme.tenant_id, now=later + 2 * HOUR, later=later + 3 * HOUR)
    push_all(session, acme, stripe, now=later + 2 * HOUR)
    assert stripe.total(event_name="broken") == 3
    assert kinds_held(session, acme) == []


def test_what_was_held_is_sent_when_the_next_usage_finds_the_way_free(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    use(session, acme, (3, NOON - 2 * HOUR), (2, NOON - HOUR), customer="globex")
    later = push_all(session, acme, stripe, now=AT)
    with unit_of_work(session):
        # Whoever mends it may forget to have what is held looked at.
        customers.edit(
            session, acme.tenant_id, "globex", {"stripe_customer_id": "cus_9"}, now=later
        )
    use(session, acme, (4, NOON), customer="globex")
    push_all(session, acme, stripe, now=later)
    assert stripe.total("cus_9") == 9


def test_a_stream_held_by_another_source_keeps_what_it_was_asked_for(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    """Two of ours are one customer of Stripe's; one of them loses its name there."""
    for ref in ("eu", "us"):
        told(session, acme, ref, now=AT, stripe_customer_id="cus_1")
    use(session, acme, (3, NOON), customer="eu")
    use(session, acme, (4, NOON), customer="us")
    later = push_all(session, acme, stripe, now=AT)
    told(session, acme, "us", now=later, stripe_customer_id=None)
    use(session, acme, (5, NOON), customer="eu")
    use(session, acme, (6, NOON + HOUR), customer="eu")
    later = push_all(session, acme, stripe, now=later + HOUR)
    # An hour in which the other has used nothing is not its business.
    assert stripe.total() == 3 + 4 + 6
    assert kinds_held(session, acme) == [("us", "unmapped")]
    told(session, acme, "us", now=later, stripe_customer_id="cus_1")
    push_all(session, acme, stripe, now=later + 2 * HOUR)
    with unit_of_work(session):
        unsent.release_due(session, acme.tenant_id, now=later + 2 * HOUR, later=later + 3 * HOUR)
    push_all(session, acme, stripe, now=later + 2 * HOUR)
    assert stripe.total() == 3 + 4 + 5 + 6
    assert kinds_held(session, acme) == []


def test_a_meter_that_is_away_takes_nothing_back_of_a_period_that_a_mapping_began_within(
    session: Session, stripe: FakeStripe
) -> None:
    acme = connect(session, now=AT)
    add_meter(session, acme, "seats")
    add_mapping(session, acme, "seats", aggregation="max", effective_from=NOON - HOUR)
    use(session, acme, (3, NOON), metric="seats")
    later = push_all(session, acme, stripe, now=AT)
    add_meter(session, acme, "seats", is_active=False)
    with unit_of_work(session):
        month = NOON - timedelta(days=15)
        unsent.mark(session, acme.tenant_id, "cus_1", "seats", since=month, now=later)
    push_all(session, acme, stripe, now=later)
    assert stripe.total(event_name="seats") == 3
    assert kinds_held(session, acme) == [("cus_1", "meter_inactive")]
