"""Pushes and billing periods: boundaries, final invoices, gauges that carry over, flushes."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.catalog import metrics
from metering.catalog.models import BillingPeriod
from metering.catalog.period import Span
from metering.database import unit_of_work
from metering.stripe import deltas, rollover, unsent
from metering.stripe.models import Unsendable
from tests.metering.stripe.conftest import AT
from tests.metering.stripe.test_deltas import NOON, use
from tests.stripe_setup import Connected, FakeStripe, add_mapping, add_meter, connect, push_all


def bill(
    session: Session, acme: Connected, start_at: datetime, end_at: datetime, **changes: object
) -> None:
    with unit_of_work(session):
        session.add(
            BillingPeriod(
                tenant_id=acme.tenant_id,
                customer_ref="cus_1",
                metric="api_calls",
                start_at=start_at,
                end_at=end_at,
                mode="live",
                item_id="si_1",
                **changes,
            )
        )


def test_the_hour_that_holds_a_boundary_is_pushed_in_two(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    boundary = NOON + timedelta(minutes=23, seconds=45)
    bill(session, acme, boundary - timedelta(days=30), boundary)
    bill(session, acme, boundary, boundary + timedelta(days=30))
    just = timedelta(microseconds=1)
    use(session, acme, (3, boundary - just), (4, boundary), (5, NOON))
    push_all(session, acme, stripe, now=AT)
    assert {(c.stamped_at, int(c.quantity)) for c in stripe.calls} == {(NOON, 8), (boundary, 4)}


def test_usage_of_a_final_invoice_is_a_decision_and_not_sent(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    bill(session, acme, NOON - timedelta(days=1), NOON + timedelta(days=1))
    use(session, acme, (3, NOON))
    with unit_of_work(session):
        period = session.scalars(
            select(BillingPeriod).where(BillingPeriod.tenant_id == acme.tenant_id)
        ).one()
        period.final_at = AT
    push_all(session, acme, stripe, now=AT)
    assert stripe.calls == []
    found = session.scalars(select(Unsendable).where(Unsendable.tenant_id == acme.tenant_id)).one()
    assert (found.kind, found.quantity) == ("invoice_final", 3)


@pytest.mark.parametrize("carries_over", [True, False])
def test_a_gauge_bills_a_month_without_events_where_it_carries_over(
    session: Session, stripe: FakeStripe, carries_over: bool
) -> None:
    acme = connect(session, now=AT)
    add_meter(session, acme, "seats")
    add_mapping(session, acme, "seats", aggregation="last")
    with unit_of_work(session):
        metrics.edit(session, acme.tenant_id, "seats", {"carry_over": carries_over}, now=AT)
    use(session, acme, (50, NOON), metric="seats")
    push_all(session, acme, stripe, now=AT)
    december = datetime(2026, 12, 1, tzinfo=UTC)
    for _ in range(3):
        with unit_of_work(session):
            rollover.carry(session, acme.tenant_id, now=december + timedelta(hours=1))
        push_all(session, acme, stripe, now=december + timedelta(hours=1))
    quantities = [(c.stamped_at, int(c.quantity)) for c in stripe.calls]
    november = (datetime(2026, 11, 1, tzinfo=UTC), 50)
    assert quantities == [november, *([(december, 50)] if carries_over else [])]


def test_a_gauge_that_carries_over_is_corrected_by_the_first_event_of_the_period(
    session: Session, stripe: FakeStripe
) -> None:
    acme = connect(session, now=AT)
    add_meter(session, acme, "seats")
    add_mapping(session, acme, "seats", aggregation="last")
    with unit_of_work(session):
        metrics.edit(session, acme.tenant_id, "seats", {"carry_over": True}, now=AT)
    use(session, acme, (50, NOON), metric="seats")
    push_all(session, acme, stripe, now=AT)
    later = datetime(2026, 12, 2, tzinfo=UTC)
    with unit_of_work(session):
        rollover.carry(session, acme.tenant_id, now=later)
    push_all(session, acme, stripe, now=later)
    use(session, acme, (20, later - timedelta(hours=3)), metric="seats")
    push_all(session, acme, stripe, now=later + timedelta(minutes=1))
    assert [int(c.quantity) for c in stripe.calls] == [50, 50, -30]


@pytest.mark.parametrize(
    ("aggregation", "pushed"), [("sum", 5), ("max", 2), ("last", -2), ("unique", 1)]
)
def test_going_live_within_a_period_bills_only_what_comes_then(
    session: Session, stripe: FakeStripe, aggregation: str, pushed: int
) -> None:
    """What was used before the mapping began is somebody else's to bill."""
    acme = connect(session, now=AT)
    add_meter(session, acme, "seats")
    live = NOON - timedelta(hours=1)
    add_mapping(session, acme, "seats", aggregation=aggregation, effective_from=live)
    hour = timedelta(hours=1)
    use(
        session,
        acme,
        (7, NOON - 5 * hour),
        (4, NOON - 4 * hour),
        metric="seats",
        resources=("a", "b"),
    )
    events = {"sum": (5, 0), "max": (9, 1), "last": (9, 2), "unique": (1, 1)}[aggregation]
    use(
        session,
        acme,
        (events[0], NOON - timedelta(minutes=30)),
        (events[1], NOON),
        metric="seats",
        resources=("a", "c"),
    )
    push_all(session, acme, stripe, now=AT)
    assert stripe.total(event_name="seats") == pushed


def test_a_flush_does_not_wait_for_the_cadence(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    use(session, acme, (3, NOON))
    with unit_of_work(session):
        [claim] = deltas.claim(session, acme.tenant_id, now=AT).claims
    with unit_of_work(session):
        deltas.settle(session, [(claim, stripe.send(claim))], now=AT)
    use(session, acme, (4, NOON))
    soon = AT + timedelta(seconds=1)
    with unit_of_work(session):
        assert deltas.claim(session, acme.tenant_id, now=soon).claims == []
    with unit_of_work(session):
        assert deltas.claim(session, acme.tenant_id, now=soon + timedelta(seconds=1)).claims == []
    span = Span(NOON, NOON + timedelta(hours=1))
    with unit_of_work(session):
        unsent.flush(session, acme.tenant_id, "cus_1", "api_calls", span, now=soon)
    with unit_of_work(session):
        [urgent] = deltas.claim(session, acme.tenant_id, now=soon).claims
    assert urgent.quantity == 4


def test_moving_a_customer_to_another_of_stripes_moves_its_open_usage(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    from metering.catalog import customers

    with unit_of_work(session):
        customers.edit(session, acme.tenant_id, "globex", {"stripe_customer_id": "cus_a"}, now=AT)
    use(session, acme, (3, NOON), customer="globex")
    later = push_all(session, acme, stripe, now=AT)
    with unit_of_work(session):
        customers.edit(
            session, acme.tenant_id, "globex", {"stripe_customer_id": "cus_b"}, now=later
        )
        unsent.mark(session, acme.tenant_id, "globex", "api_calls", since=NOON, now=later)
    push_all(session, acme, stripe, now=later)
    assert (stripe.total("cus_a"), stripe.total("cus_b")) == (0, 3)
