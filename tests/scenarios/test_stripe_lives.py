"""Lives of usage on its way to Stripe: real jobs, real sockets, the real library, the stand-in."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from jobs import catalogue, runtime, stripe_calls
from jobs import deltas as jobs_deltas
from metering.catalog import customers
from metering.catalog.mirror import SubscriptionItem
from metering.catalog.schedules import planned
from metering.counters import fold, periods
from metering.database import unit_of_work
from metering.stripe import claims, deltas, unsent
from metering.stripe.claims import Claim
from metering.stripe.models import Connection, Held, Push, PushStream, Unsent
from sandbox.stripe.pipeline import KIND
from sandbox.stripe.server import serving
from sandbox.stripe.world import World
from tests.stripe_setup import (
    Connected,
    FakeStripe,
    add_mapping,
    add_meter,
    connect,
    push_all,
)
from tests.support import entry, put

LIVE, TEST = "sk_live_lives", "sk_test_lives"


@dataclass
class Standing:
    """A served stand-in in which a tenant has an account, and jobs that call it."""

    world: World
    url: str
    acme: Connected
    session: Session
    calls: list[tuple[str, bool]]

    def total(self, mode: str = "live", customer: str = "cus_1", event: str = "api_calls") -> Any:
        """What the stand-in has accepted and not thrown away."""
        partition = self.world.partition(self.acme.account_id, livemode=mode == "live")
        return sum(
            (
                Decimal(record["value"])
                for record in partition.of(KIND).values()
                if record["state"] != "rejected"
                and (record["customer"], record["event_name"]) == (customer, event)
            ),
            Decimal(0),
        )

    def use(self, quantity: object, *, customer: str = "cus_1", at: datetime | None = None) -> None:
        now = datetime.now(UTC)
        event = entry(
            f"{now.timestamp()}", quantity, at or _hour(now), customer=customer, metric="api_calls"
        )
        put(self.session, self.acme.tenant_id, [event], now=now)
        with unit_of_work(self.session):
            fold.fold(self.session, self.acme.tenant_id, now=now)

    def push(self) -> int:
        return jobs_deltas.push(self.acme.tenant_id)


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


@pytest.fixture
def environment(
    database: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., None]]:
    """Sets variables for the jobs of this process, which read them when they first need them."""

    def forget() -> None:
        for cached in (
            runtime.config,
            runtime._engine_of,
            runtime._hints_of,
            stripe_calls._driver_of,
        ):
            cached.cache_clear()

    def set_variables(**variables: str | None) -> None:
        for name, value in variables.items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)
        forget()

    set_variables(DATABASE_URL=database, REDIS_URL=redis_url)
    yield set_variables
    runtime._engine_of(os.getpid()).dispose()
    forget()


@contextmanager
def standing_in(session: Session, environment: Callable[..., None]) -> Iterator[Standing]:
    now = datetime.now(UTC)
    acme = connect(session, now=now)
    world = World(calm=True)
    world.add_key(LIVE, acme.account_id, livemode=True)
    world.add_key(TEST, acme.account_id, livemode=False)
    calls: list[tuple[str, bool]] = []
    world.observers.append(lambda method, path, params, status, body: calls.append((path, True)))
    with serving(world) as url:
        # A stand-in takes no live key: what is live here is so by its mode alone.
        environment(STRIPE_TEST_KEY=TEST, STRIPE_API_BASE=url, STRIPE_ACCOUNT=acme.account_id)
        yield Standing(world, url, acme, session, calls)


@pytest.fixture
def standing(session: Session, environment: Callable[..., None]) -> Iterator[Standing]:
    """Shadow only: a test key and no live one."""
    with standing_in(session, environment) as made:
        for mode in ("live", "test"):
            _make_meter(made, mode)
        yield made


def _make_meter(standing: Standing, mode: str) -> None:
    """The meter at the stand-in, and as a sync would have noted it; and the customer."""
    partition = standing.world.partition(standing.acme.account_id, livemode=mode == "live")
    meter_id = f"mtr_{mode}"
    partition.put(
        "billing.meter",
        {
            "id": meter_id,
            "object": "billing.meter",
            "event_name": "api_calls",
            "status": "active",
            "default_aggregation": {"formula": "sum"},
            "customer_mapping": {"event_payload_key": "stripe_customer_id", "type": "by_id"},
            "value_settings": {"event_payload_key": "value"},
            "event_time_window": None,
        },
    )
    partition.put("customer", {"id": "cus_1", "object": "customer"})
    partition.put("customer", {"id": "cus_test", "object": "customer"})
    add_meter(standing.session, standing.acme, "api_calls", mode=mode, meter_id=meter_id)


def _shadow(standing: Standing) -> None:
    now = datetime.now(UTC)
    add_mapping(standing.session, standing.acme, is_active=True, is_shadow=True)
    with unit_of_work(standing.session):
        customers.edit(
            standing.session,
            standing.acme.tenant_id,
            "cus_1",
            {"shadow_stripe_customer_id": "cus_test"},
            now=now,
        )


def test_shadow_without_a_test_key_sends_nothing_anywhere(
    standing: Standing, environment: Callable[..., None]
) -> None:
    """Counted at the socket: not one request arrives, and the reason is there to be read."""
    _shadow(standing)
    environment(STRIPE_TEST_KEY=None)
    standing.use(3)
    for _ in range(3):
        standing.push()
    assert standing.calls == []
    reasons = [
        push.error
        for push in standing.session.scalars(
            select(Push).where(Push.tenant_id == standing.acme.tenant_id)
        )
    ]
    assert len(reasons) == 2
    assert all(reason and "STRIPE_" in reason for reason in reasons)


def test_shadow_arrives_while_live_fails_and_neither_marks_the_other(standing: Standing) -> None:
    """No live key: live waits and says why; test has its total, under its own customer."""
    _shadow(standing)
    standing.use(3)
    standing.push()
    assert standing.total("test", "cus_test") == 3
    assert standing.total("live") == 0
    states = dict(
        standing.session.execute(
            select(PushStream.mode, Push.state)
            .join(
                PushStream,
                (PushStream.tenant_id == Push.tenant_id) & (PushStream.stream_id == Push.stream_id),
            )
            .where(Push.tenant_id == standing.acme.tenant_id)
        ).all()
    )
    assert states == {"test": "settled", "live": "claimed"}


def test_live_arrives_while_shadow_fails(session: Session, standing: Standing) -> None:
    """The same the other way round, with the core and a Stripe that refuses test mode."""
    _shadow(standing)
    standing.use(3)

    class RefusesTests(FakeStripe):
        def send(self, claim: Claim) -> claims.Outcome:
            if claim.stream.mode == "test":
                return claims.Outcome("rejected", "no", status=400)
            return super().send(claim)

    stripe = RefusesTests()
    push_all(session, standing.acme, stripe, now=datetime.now(UTC))
    assert stripe.total("cus_1") == 3
    states = set(
        session.scalars(select(Push.state).where(Push.tenant_id == standing.acme.tenant_id))
    )
    assert states == {"settled", "rejected"}


def test_two_workers_push_one_stream_once(engine: Engine, session: Session) -> None:
    """However many claim at once, one push is open, and one call is in flight."""
    now = datetime.now(UTC)
    acme = connect(session, now=now)
    add_meter(session, acme, "api_calls")
    add_mapping(session, acme)
    put(session, acme.tenant_id, [entry("k", 3, _hour(now))], now=now)
    with unit_of_work(session):
        fold.fold(session, acme.tenant_id, now=now)
    barrier = threading.Barrier(6)

    def work(_: int) -> list[Claim]:
        with Session(engine) as own:
            barrier.wait()
            with unit_of_work(own):
                return list(deltas.claim(own, acme.tenant_id, now=now).claims)

    for _ in range(5):
        with ThreadPoolExecutor(6) as pool:
            claims = [claim for found in pool.map(work, range(6)) for claim in found]
        session.expire_all()
        pushes = session.scalars(select(Push).where(Push.tenant_id == acme.tenant_id)).all()
        assert len(pushes) == 1
        assert len(claims) <= 1
        session.rollback()


def test_a_customer_with_two_items_on_a_meter_is_a_visible_conflict(
    session: Session,
) -> None:
    now = datetime.now(UTC)
    acme = connect(session, now=now)
    meter_id = add_meter(session, acme, "api_calls")
    add_mapping(session, acme)
    with unit_of_work(session):
        for number in (1, 2):
            session.add(_item(acme, number, meter_id, now))
    put(session, acme.tenant_id, [entry("k", 3, _hour(now))], now=now)
    with unit_of_work(session):
        fold.fold(session, acme.tenant_id, now=now)
    stripe = FakeStripe()
    push_all(session, acme, stripe, now=now)
    assert stripe.calls == []
    held = session.scalars(select(Held).where(Held.tenant_id == acme.tenant_id)).one()
    assert held.kind == "conflict"
    assert "si_1" in held.reason
    assert "si_2" in held.reason


def _item(acme: Connected, number: int, meter_id: str, now: datetime) -> SubscriptionItem:
    start = _hour(now) - timedelta(days=3) + timedelta(minutes=23, seconds=45)
    return SubscriptionItem(
        tenant_id=acme.tenant_id,
        mode="live",
        account_id=acme.account_id,
        item_id=f"si_{number}",
        subscription_id=f"sub_{number}",
        stripe_customer="cus_1",
        price_id="price_1",
        meter_id=meter_id,
        status="active",
        interval="month",
        interval_count=1,
        anchor_at=start,
        current_start=start,
        current_end=_a_month_after(start),
        started_at=start,
        fetched_at=now,
    )


def _a_month_after(start: datetime) -> datetime:
    month = start.month % 12 + 1
    year = start.year + start.month // 12
    for day in range(start.day, 27, -1):
        try:
            return start.replace(year=year, month=month, day=day)
        except ValueError:
            continue
    return start.replace(year=year, month=month)


def test_usage_from_before_its_subscription_was_known_moves_and_is_pushed_once(
    session: Session,
) -> None:
    """Events arrive and are pushed by the calendar month; then the subscription becomes known."""
    now = datetime.now(UTC)
    acme = connect(session, now=now)
    meter_id = add_meter(session, acme, "api_calls")
    add_mapping(session, acme)
    item = _item(acme, 1, meter_id, now)
    boundary = item.current_start
    just = timedelta(seconds=1)
    events = [entry("a", 3, boundary - just), entry("b", 4, boundary), entry("c", 5, _hour(now))]
    put(session, acme.tenant_id, events, now=now)
    with unit_of_work(session):
        fold.fold(session, acme.tenant_id, now=now)
    stripe = FakeStripe()
    later = push_all(session, acme, stripe, now=now)
    assert stripe.total() == 12
    with unit_of_work(session):
        moved = periods.replan(
            session, acme.tenant_id, "cus_1", "api_calls", planned(item), now=later
        )
        assert moved is not None
        unsent.mark(
            session,
            acme.tenant_id,
            "cus_1",
            "api_calls",
            since=boundary - timedelta(days=2),
            now=later,
        )
    push_all(session, acme, stripe, now=later)
    assert stripe.total() == 12
    in_period = sum(call.quantity for call in stripe.calls if call.stamped_at >= boundary)
    assert in_period == 9


def test_a_stripe_that_is_down_for_hours_costs_nothing_but_time(standing: Standing) -> None:
    _shadow(standing)
    standing.world.faults.plant("down", times=-1)
    standing.use(3)
    for _ in range(4):
        _hurry(standing)
        standing.push()
    connection = standing.session.scalars(
        select(Connection).where(
            Connection.tenant_id == standing.acme.tenant_id, Connection.mode == "test"
        )
    ).one()
    assert connection.halted_kind == "unreachable"
    assert connection.halted_until is not None
    standing.session.rollback()
    standing.world.faults.clear()
    standing.use(4, at=_hour(datetime.now(UTC)) - timedelta(hours=1))
    for _ in range(3):
        _hurry(standing)
        standing.push()
    assert standing.total("test", "cus_test") == 7


def _hurry(standing: Standing) -> None:
    """Let what waits be due now."""
    now = datetime.now(UTC)
    with unit_of_work(standing.session) as session:
        for push in session.scalars(
            select(Push).where(Push.tenant_id == standing.acme.tenant_id, Push.state == "claimed")
        ):
            push.lease_until = now
        for connection in session.scalars(
            select(Connection).where(Connection.tenant_id == standing.acme.tenant_id)
        ):
            connection.halted_until = None
    with unit_of_work(standing.session) as session:
        for row in session.scalars(
            select(Unsent).where(Unsent.tenant_id == standing.acme.tenant_id)
        ):
            row.due_at = now


def test_a_key_revoked_in_mid_run_is_a_visible_state_and_loses_nothing(standing: Standing) -> None:
    _shadow(standing)
    standing.use(3)
    standing.push()
    standing.world.revoke_key(TEST)
    standing.use(4, at=_hour(datetime.now(UTC)) - timedelta(hours=1))
    standing.push()
    connection = standing.session.scalars(
        select(Connection).where(
            Connection.tenant_id == standing.acme.tenant_id, Connection.mode == "test"
        )
    ).one()
    assert connection.halted_kind == "auth"
    assert TEST not in str(connection.halted_reason)
    standing.session.rollback()
    standing.world.add_key(TEST, standing.acme.account_id, livemode=False)
    _hurry(standing)
    standing.push()
    assert standing.total("test", "cus_test") == 7


def _halt(standing: Standing) -> str | None:
    with unit_of_work(standing.session) as session:
        return session.scalars(
            select(Connection.halted_kind).where(
                Connection.tenant_id == standing.acme.tenant_id, Connection.mode == "test"
            )
        ).one()


def test_a_halt_ends_with_a_reading_once_no_push_is_left_to_try(standing: Standing) -> None:
    _shadow(standing)
    place = standing.acme.tenant_id, "test", standing.acme.account_id
    standing.world.revoke_key(TEST)
    catalogue.read_events(*place)
    assert _halt(standing) == "auth"
    standing.world.add_key(TEST, standing.acme.account_id, livemode=False)
    catalogue.read_events(*place)
    assert _halt(standing) == "auth", "not before its time is over"
    _hurry(standing)
    catalogue.read_events(*place)
    assert _halt(standing) is None


def test_a_reading_says_nothing_of_a_push_that_waits(standing: Standing) -> None:
    # A key may be allowed to read and not to write: the push itself must tell.
    _shadow(standing)
    standing.world.revoke_key(TEST)
    standing.use(4)
    standing.push()
    standing.world.add_key(TEST, standing.acme.account_id, livemode=False)
    _hurry(standing)
    catalogue.full(standing.acme.tenant_id, "test", standing.acme.account_id)
    assert _halt(standing) == "auth"
    standing.push()
    assert _halt(standing) is None
