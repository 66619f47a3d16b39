"""The public face: usage that its users count themselves, through a push row all the same."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, cast

import pytest
from sqlalchemy import select
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from metering.database import unit_of_work
from metering.errors import ConflictError, ForbiddenError, InvalidInputError
from metering.stripe import deltas
from metering.stripe.claims import LEASE
from metering.stripe.driver import Driver, StripeFault
from metering.stripe.models import Push
from metering.stripe.recording import CALL, StripeBillingDriver, send
from tests.metering.stripe.test_deltas import NOON, use
from tests.stripe_setup import Connected, FakeStripe, add_mapping, add_meter, connect, push_all

AT = NOON + timedelta(minutes=30)


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
