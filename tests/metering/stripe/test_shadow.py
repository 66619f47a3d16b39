"""Live, shadow and local side by side."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy.orm import Session

from metering.catalog import customers
from metering.catalog.period import Span, calendar_month
from metering.counters import fold
from metering.database import unit_of_work
from metering.stripe import shadow
from metering.stripe.claims import Outcome
from metering.stripe.shadow import Compared
from tests.metering.stripe.conftest import AT
from tests.stripe_setup import Connected, FakeStripe, add_mapping, add_meter, connect, push_all
from tests.support import entry, put

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
NOVEMBER = calendar_month(NOON)


@pytest.fixture
def acme(session: Session) -> Connected:
    made = connect(session, now=AT)
    for mode in ("live", "test"):
        add_meter(session, made, "api_calls", mode=mode)
    add_mapping(session, made, is_active=True, is_shadow=True)
    with unit_of_work(session):
        told = {"shadow_stripe_customer_id": "cus_t1"}
        customers.edit(session, made.tenant_id, "cus_1", told, now=AT)
    return made


def use(session: Session, to: Connected, quantity: int, customer: str = "cus_1") -> None:
    put(session, to.tenant_id, [entry(f"{customer}-{quantity}", quantity, NOON, customer=customer)])
    with unit_of_work(session):
        fold.fold(session, to.tenant_id, now=NOON)


def rows(session: Session, to: Connected, month: Span = NOVEMBER) -> list[Compared]:
    return list(shadow.every(session, to.tenant_id, month))


def test_both_modes_hold_what_was_used(session: Session, acme: Connected) -> None:
    use(session, acme, 7)
    [before] = rows(session, acme)
    assert (before.local, before.live.state, before.shadow.state) == (7, "waiting", "waiting")
    assert before.live.difference == -7
    push_all(session, acme, FakeStripe(), now=AT)
    [row] = rows(session, acme)
    for side in (row.live, row.shadow):
        assert (side.state, side.owed, side.pushed, side.difference) == ("equal", 7, 7, 0)
        assert side.confirmed == 0
    assert rows(session, acme, calendar_month(NOON - timedelta(days=31))) == []


def test_the_failure_of_one_is_seen_beside_the_other(session: Session, acme: Connected) -> None:
    use(session, acme, 7)

    class Refusing(FakeStripe):
        def send(self, claim):
            if claim.stream.mode == "test":
                return Outcome("rejected", "no", status=400)
            return super().send(claim)

    push_all(session, acme, Refusing(), now=AT)
    [row] = rows(session, acme)
    assert (row.live.state, row.live.pushed) == ("equal", 7)
    assert (row.shadow.state, row.shadow.pushed, row.shadow.difference) == ("waiting", 0, -7)


def test_who_is_nobody_in_test_mode_is_held_there_alone(session: Session, acme: Connected) -> None:
    use(session, acme, 5, "cus_2")
    push_all(session, acme, FakeStripe(), now=AT)
    [row] = rows(session, acme)
    assert (row.live.state, row.shadow.state) == ("equal", "held")
    assert row.shadow.reason is not None
    assert "cus_2" in row.shadow.reason


def test_a_mode_that_nothing_leads_to_is_off(session: Session) -> None:
    made = connect(session, now=AT)
    add_meter(session, made, "api_calls")
    add_mapping(session, made)
    use(session, made, 3)
    push_all(session, made, FakeStripe(), now=AT)
    [row] = rows(session, made)
    assert (row.live.state, row.shadow.state, row.shadow.difference) == ("equal", "off", None)


def test_pages_and_sums_hold_every_row_once(session: Session, acme: Connected) -> None:
    for number in range(5):
        use(session, acme, 10 + number, f"cus_{number}")
    push_all(session, acme, FakeStripe(), now=AT)
    listed, after = [], None
    while True:
        page = shadow.page(session, acme.tenant_id, NOVEMBER, after=after, limit=2)
        listed += page
        if len(page) < 2:
            break
        after = page[-1].place
    assert listed == rows(session, acme)
    assert len(listed) == 5
    [total], is_complete = shadow.sums(listed)
    assert (total.metric, total.rows, total.local, is_complete) == ("api_calls", 5, 60, True)
    # Only cus_1 is somebody in test mode.
    assert (total.live_pushed, total.shadow_pushed) == (60, 11)
    assert (total.live_difference, total.shadow_difference) == (0, Decimal(-49))


def test_two_of_ours_in_one_place_are_not_told_apart(session: Session, acme: Connected) -> None:
    with unit_of_work(session):
        for ref in ("eu", "us"):
            customers.edit(session, acme.tenant_id, ref, {"stripe_customer_id": "cus_1"}, now=AT)
    use(session, acme, 3, "eu")
    use(session, acme, 4, "us")
    push_all(session, acme, FakeStripe(), now=AT)
    for row in rows(session, acme):
        assert (row.live.state, row.live.pushed, row.live.difference) == ("shared", 7, None)
