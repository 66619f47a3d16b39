"""The public face: usage that its users count themselves, through a push row all the same."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any, cast

import pytest
from sqlalchemy import select
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from metering.catalog import customers
from metering.catalog.mirror import SubscriptionItem
from metering.database import unit_of_work
from metering.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from metering.stripe import deltas
from metering.stripe.claims import LEASE
from metering.stripe.driver import Driver, StripeFault
from metering.stripe.limits import Unlimited
from metering.stripe.models import Push
from metering.stripe.recording import CALL, StripeBillingDriver, send
from sandbox.stripe.world import World
from tests.metering.stripe.conftest import AT
from tests.metering.stripe.scripted import Answer, serving
from tests.metering.stripe.test_deltas import NOON, use
from tests.stripe_setup import Connected, FakeStripe, add_mapping, add_meter, connect, push_all
from tests.stripe_world import Clock, driver_of


@dataclass
class Calls:
    """Stands where the driver would, and remembers what it was to send."""

    sent: list[dict[str, Any]] = field(default_factory=list)
    fault: StripeFault | None = None

    def send_meter_event(self, mode: str, account: str, **event: Any) -> None:
        self.sent.append(event)
        if self.fault is not None:
            raise self.fault


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def acme(session: Session) -> Connected:
    made = connect(session, now=AT)
    add_meter(session, made, "api_calls")
    return made


@pytest.fixture
def face(engine: Engine, calls: Calls) -> StripeBillingDriver:
    @contextmanager
    def sessions() -> Iterator[Session]:
        with Session(engine) as opened:
            yield opened

    return StripeBillingDriver(sessions=sessions, clock=lambda: AT, driver=cast("Driver", calls))


def record(
    face: StripeBillingDriver, acme: Connected, quantity: int = 3, key: str = "k", **changes: Any
) -> Any:
    arguments: dict[str, Any] = {
        "meter": "api_calls",
        "customer": "cus_1",
        "quantity": Decimal(quantity),
        "period_start": NOON,
        "idempotency_key": key,
        **changes,
    }
    return face.record_usage("live", acme.account_id, **arguments)


def test_a_repetition_is_sent_once(
    session: Session, acme: Connected, face: StripeBillingDriver, calls: Calls
) -> None:
    first = record(face, acme)
    assert first.state == "settled"
    assert record(face, acme) == first
    assert len(calls.sent) == 1
    assert calls.sent[0]["identifier"] == first.identifier
    [push] = session.scalars(select(Push).where(Push.tenant_id == acme.tenant_id))
    assert (push.basis, push.quantity, push.stamped_at) == ("direct", 3, NOON)


def test_a_key_names_one_usage(acme: Connected, face: StripeBillingDriver) -> None:
    record(face, acme)
    with pytest.raises(ConflictError, match="other usage"):
        record(face, acme, quantity=4)
    assert record(face, acme, quantity=4, customer="cus_2").state == "settled"


def test_a_silent_stripe_leaves_it_open_for_the_workers(
    session: Session, acme: Connected, face: StripeBillingDriver, calls: Calls
) -> None:
    calls.fault = StripeFault("retry", "no answer")
    assert record(face, acme).state == "claimed"
    stripe = FakeStripe()
    push_all(session, acme, stripe, now=AT + timedelta(minutes=5))
    assert stripe.total() == 3
    assert record(face, acme).state == "settled"


def test_deltas_neither_count_it_nor_take_it_back(
    session: Session, acme: Connected, face: StripeBillingDriver
) -> None:
    add_mapping(session, acme)
    record(face, acme)
    use(session, acme, (5, NOON))
    stripe = FakeStripe()
    push_all(session, acme, stripe, now=AT)
    assert [call.quantity for call in stripe.calls] == [5]


@pytest.fixture
def world() -> World:
    """The stand-in, at the instant that the tests are at."""
    return World(clock=Clock(AT))


def test_a_subscription_item_names_the_meter_and_the_customer_and_stripes_total_is_read_back(
    session: Session, engine: Engine, acme: Connected, world: World
) -> None:
    """Through the library and the stand-in, which counts a little later than it accepts."""
    driver = driver_of(world, acme.account_id)
    made = driver.create_meter(
        "live", acme.account_id, display_name="calls", event_name="calls", idempotency_key="m"
    )
    world.partition(acme.account_id, livemode=True).put(
        "customer", {"id": "cus_9", "object": "customer"}
    )
    add_meter(session, acme, "calls", meter_id=made.id)
    note_item(session, acme, meter_id=made.id)

    @contextmanager
    def sessions() -> Iterator[Session]:
        with Session(engine) as opened:
            yield opened

    real = StripeBillingDriver(sessions=sessions, clock=lambda: AT, driver=driver)
    item = {"subscription_item_id": "si_1", "meter": None, "customer": None}
    for number, quantity in enumerate(("0.1", "0.2", "12345678901.1234")):
        told = {**item, "quantity": Decimal(quantity), "idempotency_key": f"k{number}"}
        assert record(real, acme, **told).state == "settled"
    hour = {"start": NOON, "end": NOON + timedelta(hours=1)}
    ask = partial(real.get_usage_summary, "live", acme.account_id)
    assert ask(subscription_item_id="si_1", **hour) == 0
    world.settle()
    assert ask(subscription_item_id="si_1", **hour) == Decimal("12345678901.4234")
    assert ask(meter="calls", customer="cus_9", **hour) == Decimal("12345678901.4234")
    with pytest.raises(NotFoundError, match="si_2"):
        ask(subscription_item_id="si_2", **hour)
    with pytest.raises(NotFoundError, match="no active meter"):
        ask(meter="other", customer="cus_9", **hour)


def note_item(session: Session, acme: Connected, *, meter_id: str) -> None:
    with unit_of_work(session):
        session.add(
            SubscriptionItem(
                tenant_id=acme.tenant_id,
                mode="live",
                account_id=acme.account_id,
                item_id="si_1",
                subscription_id="sub_1",
                stripe_customer="cus_9",
                price_id="price_1",
                meter_id=meter_id,
                status="active",
                interval="month",
                interval_count=1,
                anchor_at=NOON,
                current_start=NOON,
                current_end=NOON + timedelta(days=30),
                started_at=NOON,
                fetched_at=AT,
            )
        )


def test_an_account_of_nobody_is_refused_before_any_call(
    acme: Connected, face: StripeBillingDriver, calls: Calls
) -> None:
    with pytest.raises(ForbiddenError, match="bound to no tenant"):
        face.record_usage(
            "live",
            "acct_nobody",
            meter="api_calls",
            customer="cus_1",
            quantity=Decimal(1),
            period_start=NOON,
            idempotency_key="k",
        )
    assert calls.sent == []


@pytest.mark.parametrize(
    "changes",
    [
        {"quantity": Decimal("1.0000000000000001")},
        {"period_start": NOON - timedelta(days=40)},
        {"period_start": NOON + timedelta(microseconds=1)},
        {"customer": None},
    ],
)
def test_what_cannot_be_sent_is_refused(
    acme: Connected, face: StripeBillingDriver, calls: Calls, changes: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError):
        record(face, acme, **changes)
    assert calls.sent == []


def test_nothing_is_sent_that_could_outlive_its_lease(
    session: Session, acme: Connected, calls: Calls
) -> None:
    add_mapping(session, acme)
    use(session, acme, (3, NOON))
    with unit_of_work(session):
        [claim] = deltas.claim(session, acme.tenant_id, now=AT).claims
    in_time, too_late = LEASE - CALL, LEASE - CALL + timedelta(seconds=1)
    outcome = send(cast("Driver", calls), claim, now=AT + too_late)
    assert (outcome.kind, outcome.is_certainly_not_taken, calls.sent) == ("retry", True, [])
    assert send(cast("Driver", calls), claim, now=AT + in_time).kind == "accepted"
    with unit_of_work(session):
        deltas.settle(session, [(claim, outcome)], now=AT + too_late)
    assert session.get_one(Push, (acme.tenant_id, claim.identifier)).is_uncertain is False


def test_a_stalled_worker_and_the_one_who_takes_over_send_the_same_bytes(
    session: Session, acme: Connected
) -> None:
    """Whatever has become known or has been used in between."""
    add_mapping(session, acme)
    use(session, acme, (3, NOON))
    with unit_of_work(session):
        [stalled] = deltas.claim(session, acme.tenant_id, now=AT).claims
    use(session, acme, (4, NOON), customer="cus_1")
    with unit_of_work(session):
        customers.edit(session, acme.tenant_id, "cus_1", {"stripe_customer_id": "cus_2"}, now=AT)
    later = AT + LEASE
    with unit_of_work(session):
        again = deltas.claim(session, acme.tenant_id, now=later).claims
    [taken_over] = [claim for claim in again if claim.identifier == stalled.identifier]
    assert len({claim.stream for claim in again}) == len(again), "one call of a stream at a time"
    with serving() as stripe:
        stripe.answers(Answer(200, {"object": "billing.meter_event", "livemode": True}))
        driver = Driver("sk_live_1", None, limiter=Unlimited(), base_url=stripe.url)
        assert send(driver, stalled, now=AT).kind == "accepted"
        assert send(driver, taken_over, now=later).kind == "accepted"
        first, second = stripe.asked
    assert first.body == second.body
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert stalled.identifier.encode() in first.body
