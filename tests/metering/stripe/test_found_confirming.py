"""What summaries prove, and what they only seem to: found by a review."""

from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from metering.catalog.models import BillingPeriod
from metering.database import unit_of_work
from metering.stripe import confirming, deltas
from metering.stripe.claims import LEASE, Outcome
from metering.stripe.confirming import SETTLING, Judged
from metering.stripe.models import Push, Unsendable
from tests.metering.stripe.conftest import AT
from tests.metering.stripe.test_confirming import read
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


@pytest.mark.parametrize("is_sent", [False, True])
def test_a_total_that_agrees_because_two_cancel_out_proves_nothing(
    session: Session, stripe: FakeStripe, is_sent: bool
) -> None:
    """A doubted +5 that Stripe has lost and a −5 that it does not show yet add up to its 0."""
    acme = connect(session, now=AT)
    add_meter(session, acme, "seats")
    add_mapping(session, acme, "seats", aggregation="last")
    use(session, acme, (5, NOON - HOUR), metric="seats")
    later = push_all(session, acme, stripe, now=AT)
    stripe.accepted.clear()
    with unit_of_work(session):
        session.execute(
            update(Push)
            .where(Push.tenant_id == acme.tenant_id)
            .values(state="suspect", lease_until=later + SETTLING)
        )
    use(session, acme, (0, NOON), metric="seats")
    later += SETTLING
    with unit_of_work(session):
        [claim] = deltas.claim(session, acme.tenant_id, now=later).claims
    assert claim.quantity == -5
    if is_sent:
        with unit_of_work(session):
            deltas.settle(session, [(claim, stripe.send(claim))], now=later)
        stripe.accepted.clear()  # not shown yet
    assert read(session, acme, stripe, now=later) == [Judged()]
    if not is_sent:
        with unit_of_work(session):
            deltas.settle(session, [(claim, stripe.send(claim))], now=later)
    else:
        stripe.send(claim)
    read(session, acme, stripe, now=later + SETTLING)
    push_all(session, acme, stripe, now=later + SETTLING)
    assert stripe.total(event_name="seats") == 0


def test_an_hour_of_more_digits_than_stripe_tells_does_not_drift(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    use(session, acme, ("12345678901.123456", NOON))
    later = push_all(session, acme, stripe, now=AT)
    with unit_of_work(session):
        [check] = confirming.due(session, acme.tenant_id, now=later + SETTLING)
        # As a double of fifteen digits shows it.
        shown = {NOON: Decimal("12345678901.1235")}
        judged = confirming.judge(session, check, shown, now=later + SETTLING)
    assert judged == Judged(confirmed=2)


def test_a_meter_that_took_over_a_name_is_not_asked_alone_for_what_the_first_one_took(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    use(session, acme, (3, NOON))
    later = push_all(session, acme, stripe, now=AT)
    add_meter(session, acme, "api_calls", is_active=False)
    add_meter(session, acme, "api_calls", meter_id="mtr_second")
    with unit_of_work(session):
        [check] = confirming.due(session, acme.tenant_id, now=later + SETTLING)
    assert check.meter_ids == ("mtr_api_calls_live", "mtr_second")


@pytest.mark.parametrize(("crash", "left"), [("claimed", 3), ("sent", 0), ("refused", 3)])
def test_what_is_on_its_way_when_the_invoice_becomes_final_is_not_sent_into_the_void(
    session: Session, acme: Connected, stripe: FakeStripe, crash: str, left: int
) -> None:
    with unit_of_work(session):
        session.add(
            BillingPeriod(
                tenant_id=acme.tenant_id,
                customer_ref="cus_1",
                metric="api_calls",
                start_at=NOON - timedelta(days=1),
                end_at=NOON + HOUR,
                mode="live",
                item_id="si_1",
            )
        )
    use(session, acme, (3, NOON))
    with unit_of_work(session):
        [claim] = deltas.claim(session, acme.tenant_id, now=AT).claims
    if crash == "sent":
        stripe.send(claim)
    if crash == "refused":
        with unit_of_work(session):
            deltas.settle(session, [(claim, Outcome("retry", "busy", status=429))], now=AT)
    with unit_of_work(session):
        period = session.scalars(select(BillingPeriod).filter_by(tenant_id=acme.tenant_id)).one()
        period.final_at = AT
    calls = len(stripe.calls)
    later = AT + LEASE
    for _ in range(3):
        later = push_all(session, acme, stripe, now=later) + SETTLING
        read(session, acme, stripe, now=later)
    assert len(stripe.calls) == calls
    found = session.scalars(select(Unsendable).filter_by(tenant_id=acme.tenant_id)).all()
    assert sum(each.quantity for each in found) == left
    assert {each.kind for each in found} <= {"invoice_final"}
