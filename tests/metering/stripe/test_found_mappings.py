"""Mappings that change under what was sent: found by a review that looked for double bills."""

from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.catalog import mappings, metrics
from metering.catalog.models import MetricMapping
from metering.database import unit_of_work
from metering.errors import ConflictError
from metering.stripe import opening, unsent
from metering.stripe.answers import Summary
from metering.stripe.claims import Outcome
from metering.stripe.opening import Question
from metering.stripe.streams import StreamKey
from pricing.price import from_config
from tests.metering.stripe.conftest import AT
from tests.metering.stripe.test_deltas import NOON, use
from tests.metering.stripe.test_found_holding import edit, told
from tests.stripe_setup import (
    TIERED,
    Connected,
    FakeStripe,
    add_mapping,
    add_meter,
    connect,
    push_all,
)

HOUR = timedelta(hours=1)


def test_a_shadow_that_goes_live_does_not_bill_its_past_again(
    session: Session, stripe: FakeStripe
) -> None:
    """The test pushes of a shadow do not let the live side skip the question what Stripe has."""
    acme = connect(session, now=AT)
    for mode in ("live", "test"):
        add_meter(session, acme, "api_calls", mode=mode)
    shadow = add_mapping(session, acme, is_active=False, is_shadow=True)
    told(session, acme, "globex", now=AT, shadow_stripe_customer_id="cus_t")
    told(session, acme, "globex", now=AT, stripe_customer_id="cus_1")
    use(session, acme, (3, NOON), customer="globex")
    later = push_all(session, acme, stripe, now=AT)
    assert stripe.total("cus_t") == 3
    with pytest.raises(ConflictError):
        edit(session, shadow, now=later, is_active=True)
    session.rollback()
    push_all(session, acme, stripe, now=later)
    assert stripe.total("cus_1") == 0


def test_a_price_for_one_customer_does_not_stop_its_usage(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    add_mapping(
        session,
        acme,
        customer_ref="cus_1",
        meter_event_name=None,
        price=from_config(TIERED),
        currency="usd",
    )
    use(session, acme, (3, NOON))
    push_all(session, acme, stripe, now=AT)
    assert stripe.total() == 3


@pytest.mark.parametrize("aggregation", ["max", "last", "unique"])
def test_a_mapping_from_within_a_period_is_pinned_and_sent_again_when_refused(
    session: Session, stripe: FakeStripe, aggregation: str
) -> None:
    acme = connect(session, now=AT)
    add_meter(session, acme, "seats")
    made = add_mapping(session, acme, "seats", aggregation=aggregation, effective_from=NOON - HOUR)
    use(session, acme, (3, NOON), metric="seats", resources=("a",))
    stripe.next = [Outcome("rejected", "no", status=400)]
    later = push_all(session, acme, stripe, now=AT)
    assert stripe.total(event_name="seats") == 0
    session.refresh(made)
    assert made.pushed_at is not None
    push_all(session, acme, stripe, now=later + 2 * HOUR)
    assert stripe.total(event_name="seats") == {"max": 3, "last": 3, "unique": 1}[aggregation]


def test_a_mapping_that_is_ended_takes_nothing_back_from_a_shared_stream(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    """Nor can one that has sent be switched off, or cut in the past: it would."""
    other = add_mapping(session, acme, "extra", meter_event_name="api_calls")
    use(session, acme, (3, NOON), metric="extra")
    use(session, acme, (4, NOON))
    later = push_all(session, acme, stripe, now=AT)
    for changes in ({"is_active": False}, {"effective_until": NOON}):
        with pytest.raises(ConflictError, match="stays there"):
            edit(session, other, now=later, **changes)
        session.rollback()
    with unit_of_work(session):
        mappings.end(session, acme.tenant_id, other.mapping_id, now=later)
        unsent.mark_metric(session, acme.tenant_id, "extra", since=NOON, now=later)
    use(session, acme, (5, NOON))
    later = push_all(session, acme, stripe, now=later)
    assert stripe.total() == 12
    with pytest.raises(ConflictError, match="begins in the past"):
        edit(session, other, now=later + 2 * HOUR, effective_until=None)


def test_of_two_meters_that_a_mapping_names_the_events_name_goes_first(
    session: Session, stripe: FakeStripe
) -> None:
    acme = connect(session, now=AT)
    wrong = add_meter(session, acme, "another", meter_id="mtr_a")
    add_meter(session, acme, "api_calls", meter_id="mtr_b")
    add_mapping(session, acme, meter_id=wrong)
    use(session, acme, (3, NOON))
    push_all(session, acme, stripe, now=AT)
    assert (stripe.total(), stripe.total(event_name="another")) == (3, 0)


def adopt(
    session: Session, acme: Connected, metric: str, totals: dict[datetime, int], **wanted: object
) -> None:
    """A mapping made while other code's usage is in Stripe, and acknowledged."""
    mapping = add_mapping(session, acme, metric, **wanted)
    stream = StreamKey("live", acme.account_id, metric, "cus_1")
    asked = Question(stream, f"mtr_{metric}_live", NOON - 5 * HOUR, NOON + HOUR)
    found = [Summary(hour, hour + HOUR, Decimal(total)) for hour, total in totals.items()]
    with unit_of_work(session):
        opening.adopt(session, mapping, {asked: found}, now=AT)
        unsent.mark_metric(session, acme.tenant_id, metric, since=NOON - 9 * HOUR, now=AT)


@pytest.mark.parametrize(("ours", "sent"), [(None, 0), (60, 0), (100, 0), (130, 30)])
def test_what_other_code_reported_is_never_taken_back(
    session: Session, stripe: FakeStripe, ours: int | None, sent: int
) -> None:
    """Who goes live may know less of the past than Stripe does: only what is missing is sent."""
    acme = connect(session, now=AT)
    add_meter(session, acme, "calls")
    if ours is not None:
        use(session, acme, (ours, NOON - 2 * HOUR), metric="calls")
    adopt(session, acme, "calls", {NOON - 2 * HOUR: 100})
    use(session, acme, (7, NOON), metric="calls")
    later = push_all(session, acme, stripe, now=AT)
    assert stripe.total(event_name="calls") == sent + 7
    # What comes late of that hour is missing only as far as it is more than Stripe has.
    use(session, acme, (50, NOON - 2 * HOUR), metric="calls")
    push_all(session, acme, stripe, now=later)
    assert stripe.total(event_name="calls") == max(0, (ours or 0) + 50 - 100) + 7


def test_a_gauge_that_was_taken_over_may_fall(session: Session, stripe: FakeStripe) -> None:
    acme = connect(session, now=AT)
    add_meter(session, acme, "seats")
    use(session, acme, (50, NOON - 2 * HOUR), metric="seats")
    adopt(session, acme, "seats", {NOON - 2 * HOUR: 50}, aggregation="last")
    use(session, acme, (20, NOON), metric="seats")
    push_all(session, acme, stripe, now=AT)
    assert stripe.total(event_name="seats") == -30


def test_what_was_taken_over_pins_the_mapping(session: Session, acme: Connected) -> None:
    """Read otherwise, it would be taken back by the hour and sent again by the period."""
    add_meter(session, acme, "calls")
    adopt(session, acme, "calls", {NOON - 2 * HOUR: 100})
    mapping = session.scalars(
        select(MetricMapping).filter_by(tenant_id=acme.tenant_id, metric="calls")
    ).one()
    with pytest.raises(ConflictError, match="cannot change"):
        edit(session, mapping, now=AT, aggregation="max")
    session.rollback()
    with unit_of_work(session):
        metrics.edit(session, acme.tenant_id, "calls", {"aggregation": "max"}, now=AT)
    session.refresh(mapping)
    assert mapping.aggregation == "sum"


@pytest.mark.parametrize("aggregation", ["sum", "max", "last", "unique"])
def test_the_rest_of_the_hour_in_which_a_mapping_ends_is_its_own(
    session: Session, stripe: FakeStripe, aggregation: str
) -> None:
    """The next one begins with the next hour: what comes in between belongs to one of them."""
    acme = connect(session, now=AT)
    for meter in ("seats", "other"):
        add_meter(session, acme, meter)
    ending = add_mapping(session, acme, "seats", aggregation=aggregation)
    with unit_of_work(session):
        mappings.end(session, acme.tenant_id, ending.mapping_id, now=AT)
    add_mapping(
        session,
        acme,
        "seats",
        meter_event_name="other",
        aggregation=aggregation,
        effective_from=NOON + HOUR,
    )
    use(session, acme, (1, NOON + timedelta(minutes=40)), metric="seats", resources=("a",))
    push_all(session, acme, stripe, now=AT + HOUR)
    assert (stripe.total(event_name="seats"), stripe.total(event_name="other")) == (1, 0)
