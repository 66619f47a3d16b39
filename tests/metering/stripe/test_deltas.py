"""Deltas: claimed, sent, settled; whatever happens in between, Stripe's total becomes ours."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from metering.counters import fold
from metering.database import unit_of_work
from metering.stripe import deltas
from metering.stripe.claims import LEASE, VISIBLE, Outcome
from metering.stripe.deltas import RECOGNISED
from metering.stripe.models import Connection, Held, Push, PushStream, Unsendable
from tests.stripe_setup import (
    ACCEPTED,
    Connected,
    FakeStripe,
    add_mapping,
    add_meter,
    connect,
    push_all,
    push_once,
)
from tests.support import entry, put

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)


@pytest.fixture
def at() -> datetime:
    return NOON + timedelta(minutes=30)


def use(
    session: Session,
    acme: Connected,
    *events: tuple[object, datetime],
    customer: str = "cus_1",
    metric: str = "api_calls",
    resources: tuple[str, ...] = (),
) -> None:
    stamp = datetime.now(UTC).isoformat()
    entries = [
        entry(
            f"{stamp}-{customer}-{metric}-{i}",
            quantity,
            ts,
            customer=customer,
            metric=metric,
            resource=resources[i] if resources else None,
        )
        for i, (quantity, ts) in enumerate(events)
    ]
    put(session, acme.tenant_id, entries, now=NOON)
    with unit_of_work(session):
        fold.fold(session, acme.tenant_id, now=NOON)


def test_what_was_used_reaches_stripe_once(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    use(session, acme, (3, NOON), (4, NOON + timedelta(minutes=5)), (5, NOON - timedelta(hours=2)))
    later = push_all(session, acme, stripe, now=at)
    assert stripe.total() == 12
    assert {(c.quantity, c.stamped_at) for c in stripe.calls} == {
        (Decimal(7), NOON),
        (Decimal(5), NOON - timedelta(hours=2)),
    }
    use(session, acme, (1, NOON))
    push_all(session, acme, stripe, now=later)
    assert stripe.total() == 13
    assert stripe.calls[-1].quantity == 1


def test_a_push_that_crashes_after_sending_is_not_counted_twice(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    use(session, acme, (3, NOON))
    with unit_of_work(session):
        [claim] = deltas.claim(session, acme.tenant_id, now=at).claims
    stripe.send(claim)  # and the worker dies
    use(session, acme, (2, NOON))
    assert push_once(session, acme, stripe, now=at + timedelta(seconds=30)) == 0
    push_all(session, acme, stripe, now=at + LEASE)
    assert stripe.total() == 5
    first, again = stripe.calls[:2]
    assert (again.identifier, again.quantity, again.stamped_at) == (
        first.identifier,
        first.quantity,
        first.stamped_at,
    )


def test_a_push_that_crashes_before_sending_is_sent(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    use(session, acme, (3, NOON))
    with unit_of_work(session):
        deltas.claim(session, acme.tenant_id, now=at)
    push_all(session, acme, stripe, now=at + LEASE)
    assert stripe.total() == 3


def test_an_answered_500_takes_a_new_idempotency_key_but_the_same_identifier(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    use(session, acme, (3, NOON))
    stripe.next = [Outcome("retry", "an error", status=500)]
    push_all(session, acme, stripe, now=at)
    push_all(session, acme, stripe, now=at + timedelta(minutes=3))
    first, second = stripe.calls
    assert first.identifier == second.identifier
    assert first.idempotency_key == first.identifier
    assert second.idempotency_key == f"{first.identifier}~1"
    assert stripe.total() == 3


def test_already_exists_is_success_only_from_the_second_attempt(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    use(session, acme, (3, NOON))
    stripe.next = [Outcome("duplicate", "An event already exists", status=400)]
    push_once(session, acme, stripe, now=at)
    [push] = session.scalars(select(Push).where(Push.tenant_id == acme.tenant_id))
    assert push.state == "ambiguous"
    assert push.lease_until == at + VISIBLE


def test_a_push_of_unknown_outcome_is_not_resent_after_a_day(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    use(session, acme, (3, NOON))
    with unit_of_work(session):
        deltas.claim(session, acme.tenant_id, now=at)
    push_all(session, acme, stripe, now=at + RECOGNISED)
    assert stripe.calls == []
    assert session.scalars(select(Push.state).where(Push.tenant_id == acme.tenant_id)).all() == [
        "ambiguous"
    ]


def test_one_customers_refusal_does_not_stop_the_others(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    use(session, acme, (3, NOON), customer="cus_1")
    use(session, acme, (4, NOON), customer="cus_2")
    stripe.next = [Outcome("rejected", "no", status=400)]
    push_all(session, acme, stripe, now=at)
    refused = stripe.calls[0].stream.stripe_customer
    other = {"cus_1": "cus_2", "cus_2": "cus_1"}[refused]
    assert stripe.total(refused) == 0
    assert stripe.total(other) == {"cus_1": 3, "cus_2": 4}[other]
    push_all(session, acme, stripe, now=at + timedelta(hours=2))
    assert (stripe.total("cus_1"), stripe.total("cus_2")) == (3, 4)


def test_many_digits_arrive_in_several_pushes(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    use(session, acme, ("12345678901.123456", NOON))
    push_all(session, acme, stripe, now=at)
    assert [call.quantity for call in stripe.calls] == [
        Decimal("12345678901.1234"),
        Decimal("0.000056"),
    ]
    assert stripe.total() == Decimal("12345678901.123456")


@pytest.mark.parametrize(
    ("aggregation", "first", "second"),
    [("max", 7, 9), ("last", 5, 9), ("unique", 2, 3), ("count", 2, 3)],
)
def test_other_readings_reach_stripe_as_differences(
    session: Session, stripe: FakeStripe, at: datetime, aggregation: str, first: int, second: int
) -> None:
    acme = connect(session, now=at)
    add_meter(session, acme, "seats")
    add_mapping(session, acme, "seats", aggregation=aggregation)
    hour = timedelta(hours=1)
    use(session, acme, (7, NOON - 2 * hour), (5, NOON - hour), metric="seats", resources=("a", "b"))
    later = push_all(session, acme, stripe, now=at)
    assert stripe.total(event_name="seats") == first
    use(session, acme, (9, NOON), metric="seats", resources=("c",))
    push_all(session, acme, stripe, now=later)
    assert stripe.total(event_name="seats") == second


def test_a_gauge_that_falls_is_pushed_as_a_negative_delta(
    session: Session, stripe: FakeStripe, at: datetime
) -> None:
    acme = connect(session, now=at)
    add_meter(session, acme, "seats")
    add_mapping(session, acme, "seats", aggregation="last")
    use(session, acme, (50, NOON - timedelta(hours=2)), metric="seats")
    later = push_all(session, acme, stripe, now=at)
    use(session, acme, (20, NOON), metric="seats")
    push_all(session, acme, stripe, now=later)
    assert [call.quantity for call in stripe.calls] == [50, -30]


def test_an_unknown_customer_is_held_and_sent_once_it_is_known(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    from metering.catalog import customers
    from metering.stripe import unsent

    use(session, acme, (3, NOON), customer="globex")
    push_all(session, acme, stripe, now=at)
    held = session.scalars(select(Held).where(Held.tenant_id == acme.tenant_id)).one()
    assert held.kind == "unmapped"
    assert "globex" in held.reason
    with unit_of_work(session):
        customers.edit(session, acme.tenant_id, "globex", {"stripe_customer_id": "cus_9"}, now=at)
        unsent.release(session, acme.tenant_id, "globex", ["api_calls"], now=at)
    push_all(session, acme, stripe, now=at)
    assert stripe.total("cus_9") == 3
    assert session.scalars(select(Held).where(Held.tenant_id == acme.tenant_id)).all() == []


def test_two_of_ours_that_are_one_customer_of_stripes_add_up(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    from metering.catalog import customers

    with unit_of_work(session):
        for ref in ("eu", "us"):
            customers.edit(session, acme.tenant_id, ref, {"stripe_customer_id": "cus_1"}, now=at)
    use(session, acme, (3, NOON), customer="eu")
    later = push_all(session, acme, stripe, now=at)
    use(session, acme, (4, NOON), customer="us")
    push_all(session, acme, stripe, now=later)
    assert stripe.total("cus_1") == 7


def test_two_mappings_to_two_meters_push_apart_and_to_one_meter_once(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    add_meter(session, acme, "other")
    session.execute(text("SELECT 1"))
    with unit_of_work(session):
        from metering.catalog.models import MetricMapping

        first = session.scalars(
            select(MetricMapping).where(MetricMapping.tenant_id == acme.tenant_id)
        ).one()
        for number, name in (("2", "other"), ("3", "api_calls")):
            session.add(
                MetricMapping(
                    tenant_id=acme.tenant_id,
                    mapping_id=f"map_{number}",
                    metric="api_calls",
                    meter_event_name=name,
                    stripe_account=acme.account_id,
                    is_active=True,
                    is_shadow=False,
                    effective_from=first.effective_from,
                    created_at=at,
                    updated_at=at,
                )
            )
    use(session, acme, (3, NOON))
    push_all(session, acme, stripe, now=at)
    assert stripe.total(event_name="api_calls") == 3
    assert stripe.total(event_name="other") == 3


def test_a_meter_that_is_away_takes_nothing_back(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    use(session, acme, (3, NOON))
    later = push_all(session, acme, stripe, now=at)
    add_meter(session, acme, "api_calls", is_active=False)
    use(session, acme, (4, NOON))
    push_all(session, acme, stripe, now=later)
    assert stripe.total() == 3
    held = session.scalars(select(Held).where(Held.tenant_id == acme.tenant_id)).one()
    assert held.kind == "meter_inactive"


def test_usage_older_than_35_days_is_a_decision(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    use(session, acme, (3, NOON - timedelta(days=40)))
    push_all(session, acme, stripe, now=at)
    assert stripe.calls == []
    found = session.scalars(select(Unsendable).where(Unsendable.tenant_id == acme.tenant_id)).one()
    assert (found.kind, found.quantity) == ("too_old", 3)


def test_a_key_that_is_refused_halts_its_account_and_loses_nothing(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    use(session, acme, (3, NOON), customer="cus_1")
    use(session, acme, (4, NOON), customer="cus_2")
    stripe.next = [Outcome("auth", "Invalid API Key", status=401)] * 2
    push_all(session, acme, stripe, now=at)
    connection = session.scalars(
        select(Connection).where(Connection.tenant_id == acme.tenant_id)
    ).one()
    assert connection.halted_kind == "auth"
    assert len(stripe.calls) == 2
    push_all(session, acme, stripe, now=at + timedelta(days=2))
    assert (stripe.total("cus_1"), stripe.total("cus_2")) == (3, 4)


def test_an_answer_after_the_lease_counts_if_it_was_yes(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    use(session, acme, (3, NOON))
    with unit_of_work(session):
        [stalled] = deltas.claim(session, acme.tenant_id, now=at).claims
    with unit_of_work(session):
        [second] = deltas.claim(session, acme.tenant_id, now=at + LEASE).claims
    assert second.identifier == stalled.identifier
    with unit_of_work(session):
        deltas.settle(session, [(stalled, Outcome("rejected", "late", status=400))], now=at + LEASE)
    assert session.scalars(select(Push.state).where(Push.tenant_id == acme.tenant_id)).one() == (
        "claimed"
    )
    with unit_of_work(session):
        deltas.settle(session, [(stalled, ACCEPTED)], now=at + LEASE)
    assert session.scalars(select(Push.state).where(Push.tenant_id == acme.tenant_id)).one() == (
        "settled"
    )


def test_live_and_test_are_told_apart_and_neither_marks_the_other(
    session: Session, stripe: FakeStripe, at: datetime
) -> None:
    acme = connect(session, now=at)
    for mode in ("live", "test"):
        add_meter(session, acme, "api_calls", mode=mode)
    add_mapping(session, acme, is_active=True, is_shadow=True)
    use(session, acme, (3, NOON))
    push_all(session, acme, stripe, now=at)
    # The live customer is nobody in test mode.
    assert [call.stream.mode for call in stripe.calls] == ["live"]
    held = session.scalars(select(Held).where(Held.tenant_id == acme.tenant_id)).one()
    assert (held.mode, held.kind) == ("test", "unmapped")


def test_a_test_tenant_never_has_a_live_destination(
    session: Session, stripe: FakeStripe, at: datetime
) -> None:
    acme = connect(session, mode="test", now=at)
    for mode in ("live", "test"):
        add_meter(session, acme, "api_calls", mode=mode)
    add_mapping(session, acme, is_active=True, is_shadow=True)
    use(session, acme, (3, NOON))
    push_all(session, acme, stripe, now=at)
    assert [call.stream.mode for call in stripe.calls] == ["test"]


def test_an_account_of_nobody_is_not_called(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    other = connect(session, now=at)
    add_meter(session, other, "api_calls")
    add_mapping(session, other, stripe_account=acme.account_id)
    use(session, other, (3, NOON))
    push_all(session, other, stripe, now=at)
    assert stripe.calls == []
    held = session.scalars(select(Held).where(Held.tenant_id == other.tenant_id)).one()
    assert held.kind == "unbound"


def test_streams_are_found_again(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    use(session, acme, (3, NOON))
    later = push_all(session, acme, stripe, now=at)
    use(session, acme, (3, NOON + timedelta(hours=1)))
    push_all(session, acme, stripe, now=later + timedelta(hours=1))
    assert (
        len(session.scalars(select(PushStream).where(PushStream.tenant_id == acme.tenant_id)).all())
        == 1
    )
    assert stripe.total() == 6
