"""Whatever happens, Stripe's total of a stream is what we settled, or that and the one open push;
and when all is calm, it is ours.

A Hypothesis machine drives events, duplicates, lateness, folds, pushes that crash at every step,
Stripe's faults, error reports, summaries and the clock, against the stand-in and through the real
library.
"""

import os
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from metering.counters import fold
from metering.database import unit_of_work
from metering.stripe import confirming, deltas, recording, reports
from metering.stripe.claims import LEASE, Claim, Outcome
from metering.stripe.faults import StripeFault
from metering.stripe.models import Push, PushStream
from sandbox.stripe.events import V2_KIND
from sandbox.stripe.faults import KINDS
from sandbox.stripe.pipeline import KIND
from sandbox.stripe.world import World
from tests.stripe_setup import add_mapping, add_meter, connect
from tests.stripe_world import LIVE_KEY, Clock, driver_of
from tests.support import entry, put

# How a metric is read, and so what Stripe should hold of it.
METRICS = {"calls": "sum", "hits": "count", "peak": "max", "seats": "last", "users": "unique"}
CUSTOMERS = ("cus_a", "cus_b")
# What goes wrong on demand, with its options; lag, limits, replayed 500s and reports that name
# only samples are Stripe's manners, and always there.
FAULTS: dict[str, dict[str, Any]] = {
    "revoked": {},
    "refuse_429": {},
    "refuse_429_for_good": {"should_retry": False, "reason": None},
    "lock_timeout": {},
    "error_500_before": {},
    "error_500_before_stored": {"stored": True},
    "error_500_after": {},
    "drop_before": {},
    "drop_response_after_commit": {},
    "timeout": {"commit": False},
    "timeout_after_commit": {"commit": True},
    "reject": {"code": "meter_event_invalid_value", "message": "no"},
}
# Half a day before a month ends: gauges and peaks go through the turn of their period.
BEGINS = datetime(2026, 11, 30, 12, tzinfo=UTC)
# Beyond, usage of that month's beginning could not be sent any more.
LONGEST = timedelta(days=4)
# Within this Stripe counts or throws away what it accepted.
SLOWEST_STRIPE = timedelta(minutes=4)
CRASHES = ("", "", "claimed", "sent", "half")
Stream = tuple[str, str]


class Machine(RuleBasedStateMachine):
    """One tenant, two customers, five metrics of five readings."""

    engine: Engine

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock(BEGINS)
        self.world = World(clock=self.clock)
        self.session = Session(self.engine)
        self.events: dict[str, tuple[str, str, Decimal, datetime, str]] = {}
        self.settled_at = self.clock.now
        self.reported: set[str] = set()
        self.known_rejected: set[str] = set()
        self.claims: list[Claim] = []

    @initialize(metrics=st.sets(st.sampled_from(sorted(METRICS)), min_size=1, max_size=2))
    def connect(self, metrics: set[str]) -> None:
        self.metrics = sorted(metrics)
        self.acme = connect(self.session, now=self.clock.now)
        self.driver = driver_of(self.world, self.acme.account_id)
        for metric in self.metrics:
            meter = self.driver.create_meter(
                "live",
                self.acme.account_id,
                display_name=metric,
                event_name=metric,
                idempotency_key=f"meter-{metric}",
            )
            add_meter(self.session, self.acme, metric, meter_id=meter.id)
            add_mapping(self.session, self.acme, metric, aggregation=METRICS[metric])
        self.partition = self.world.partition(self.acme.account_id, livemode=True)
        for customer in CUSTOMERS:
            self.partition.put("customer", {"id": customer, "object": "customer"})

    @rule(
        number=st.integers(0, 1),
        customer=st.sampled_from(CUSTOMERS),
        quantity=st.decimals(0, 1000, places=3),
        minutes_ago=st.sampled_from([0, 1, 50, 70, 60 * 30]),
        resource=st.sampled_from("abc"),
        at_once=st.booleans(),
    )
    def use(
        self,
        number: int,
        customer: str,
        quantity: Decimal,
        minutes_ago: int,
        resource: str,
        at_once: bool,
    ) -> None:
        """Ingest an event, late by up to thirty hours; mostly it is folded at once."""
        metric = self.metrics[number % len(self.metrics)]
        key = f"e{len(self.events)}"
        at = self.clock.now - timedelta(minutes=minutes_ago)
        self.events[key] = (metric, customer, quantity, at, resource)
        self._ingest(key)
        if at_once:
            self.fold(100)

    @rule(number=st.integers(0, 1000))
    def repeat(self, number: int) -> None:
        """Ingest an event again."""
        if self.events:
            self._ingest(f"e{number % len(self.events)}")

    def _ingest(self, key: str) -> None:
        metric, customer, quantity, at, resource = self.events[key]
        event = entry(key, quantity, at, metric=metric, customer=customer, resource=resource)
        put(self.session, self.acme.tenant_id, [event], now=self.clock.now)

    @rule(limit=st.sampled_from([1, 3, 100]))
    def fold(self, limit: int) -> None:
        with unit_of_work(self.session):
            fold.fold(self.session, self.acme.tenant_id, now=self.clock.now, limit=limit)

    @rule(
        crash=st.sampled_from(CRASHES),
        most=st.sampled_from([1, 3, 50]),
    )
    def push(self, crash: str, most: int) -> None:
        """One turn of a worker, which may die at each of its steps."""
        claims = self._claim(most)
        if crash == "claimed":
            return
        sent = claims[: len(claims) // 2] if crash == "half" else claims
        outcomes = [(claim, self._send(claim)) for claim in sent]
        if crash != "sent":
            self._settle(outcomes)

    @rule(
        number=st.integers(0, 1),
        customer=st.sampled_from(CUSTOMERS),
        quantity=st.decimals(0, 1000, places=3),
        minutes_ago=st.sampled_from([0, 70, 60 * 30]),
        faults=st.lists(st.sampled_from(sorted(FAULTS)), max_size=2),
        crash=st.sampled_from(CRASHES),
    )
    def work(
        self,
        number: int,
        customer: str,
        quantity: Decimal,
        minutes_ago: int,
        faults: list[str],
        crash: str,
    ) -> None:
        """What a worker does all day, with things going wrong just then."""
        self.use(number, customer, quantity, minutes_ago, "a", at_once=True)
        self.wait(12)
        for name in faults:
            self.go_wrong(name, 1)
        self.push(crash, 50)

    @rule()
    def stall(self) -> None:
        """A worker that has claimed, and sends much later if at all."""
        self.claims += self._claim(2)

    @rule(in_call=st.booleans())
    def wake_up(self, in_call: bool) -> None:
        """The stalled worker goes on; where it hung within its call, its lease expired or not."""
        claims, self.claims = self.claims, []
        self._settle(
            [
                (claim, self._send(claim, claim.lease_until - LEASE if in_call else None))
                for claim in claims
            ]
        )

    def _send(self, claim: Claim, now: datetime | None = None) -> Outcome:
        return recording.send(self.driver, claim, now=now or self.clock.now)

    def _claim(self, most: int) -> list[Claim]:
        with unit_of_work(self.session):
            turn = deltas.claim(
                self.session,
                self.acme.tenant_id,
                now=self.clock.now,
                cadence=lambda mode, account: timedelta(seconds=10),
                most=most,
            )
        return list(turn.claims)

    def _settle(self, outcomes: Iterable[tuple[Claim, Outcome]]) -> None:
        with unit_of_work(self.session):
            deltas.settle(self.session, outcomes, now=self.clock.now)

    @rule(name=st.sampled_from(sorted(FAULTS)), times=st.integers(1, 2))
    def go_wrong(self, name: str, times: int) -> None:
        if name == "revoked":
            self.world.revoke_key(LIVE_KEY)
            return
        kind = next(kind for kind in KINDS if name.startswith(kind))
        self.world.faults.plant(kind, "POST /v1/billing/meter_events", times, **FAULTS[name])

    @rule()
    def mend(self) -> None:
        self.world.faults.clear()
        self.world.add_key(LIVE_KEY, self.acme.account_id, livemode=True)

    @rule(seconds=st.sampled_from([12, 100, 700, 90_000]))
    def wait(self, seconds: int) -> None:
        self._pass(min(timedelta(seconds=seconds), BEGINS + LONGEST - self.clock.now))

    def _pass(self, span: timedelta) -> None:
        """Time passes; what Stripe accepted waits some minutes at most, as we take it to be."""
        if self.clock.now + span > self.settled_at + SLOWEST_STRIPE:
            self.world.settle()
            self.settled_at = self.clock.now + span
        self.clock.now += span

    @rule()
    def count(self) -> None:
        """Stripe makes up its mind about what it accepted."""
        self.world.settle()
        self.settled_at = self.clock.now
        self._hear()

    @rule(
        samples=st.sampled_from([0, 1, 3]),
        rejected=st.integers(1, 2),
        number=st.integers(0, 1),
        crash=st.sampled_from(CRASHES),
    )
    def throw_away(self, samples: int, rejected: int, number: int, crash: str) -> None:
        """Stripe accepts an event of each customer, throws some away, and names few of them.

        samples: how many errors of a kind a report names, whatever it counts.
        """
        self.world.settings.error_samples = samples
        self.go_wrong("reject", rejected)
        for customer in CUSTOMERS:
            self.use(number, customer, Decimal(7 + len(self.events)), 0, "a", at_once=True)
        self.wait(12)
        self.push(crash, 50)
        self.count()

    @rule()
    def confirm(self) -> None:
        """Summaries are read, which show what Stripe has counted by then."""
        with unit_of_work(self.session):
            checks = confirming.due(self.session, self.acme.tenant_id, now=self.clock.now)
        for check in checks:
            try:
                found = self.driver.summaries(
                    "live",
                    self.acme.account_id,
                    check.meter_ids[0],
                    check.stream.stripe_customer,
                    check.start_at,
                    check.end_at,
                    window="hour",
                )
            except StripeFault:
                continue  # as the job does: what cannot be asked is asked another time
            totals = {summary.start_at: summary.value for summary in found}
            with unit_of_work(self.session):
                confirming.judge(self.session, check, totals, now=self.clock.now)

    def _hear(self) -> None:
        """Take the error reports that have come, each once; while the key is revoked none can be
        read, and what they tell is not known."""
        for event in list(self.partition.of(V2_KIND).values()):
            if event["id"] in self.reported:
                continue
            try:
                report = self.driver.meter_report("live", self.acme.account_id, event["id"])
            except StripeFault:
                return  # as the job does: it is asked again
            self.reported.add(event["id"])
            with unit_of_work(self.session):
                reports.apply(
                    self.session,
                    self.acme.tenant_id,
                    "live",
                    self.acme.account_id,
                    report,
                    now=self.clock.now,
                )
        self.known_rejected = {
            event["id"]
            for event in self.partition.of(KIND).values()
            if event["state"] == "rejected"
        }

    @invariant()
    def stripe_holds_what_was_settled_or_that_and_the_open_push(self) -> None:
        if not hasattr(self, "acme"):
            return
        self._hear()
        held = self._held()
        settled: dict[Stream, Decimal] = defaultdict(Decimal)
        pending: dict[Stream, list[Decimal]] = defaultdict(list)
        doubted: dict[Stream, list[Decimal]] = defaultdict(list)
        for push, stream in self.session.execute(
            select(Push, PushStream)
            .join(
                PushStream,
                (PushStream.tenant_id == Push.tenant_id) & (PushStream.stream_id == Push.stream_id),
            )
            .where(Push.tenant_id == self.acme.tenant_id, Push.state != "rejected")
            .execution_options(populate_existing=True)
        ):
            key = stream.event_name, stream.stripe_customer
            if push.state in ("claimed", "ambiguous"):
                pending[key].append(push.quantity)
            elif push.state == "suspect":
                doubted[key].append(push.quantity)
            else:
                settled[key] += push.quantity
        self.session.rollback()
        for key in {*held, *settled, *pending, *doubted}:
            assert len(pending[key]) <= 1, f"two open pushes of {key}"
            # Of what a report may mean without naming it, each may be there or not.
            possible = {settled[key]}
            for quantity in (*pending[key], *doubted[key]):
                possible |= {total + quantity for total in possible}
            assert held[key] in possible, f"{key}: {held[key]} is none of {possible}"

    def _held(self) -> dict[Stream, Decimal]:
        """What Stripe has accepted and not thrown away as far as can be known, counted or not."""
        held: dict[Stream, Decimal] = defaultdict(Decimal)
        for event in self.partition.of(KIND).values():
            if event["id"] not in self.known_rejected:
                held[event["event_name"], event["customer"]] += Decimal(event["value"])
        return held

    def teardown(self) -> None:
        """Let all be calm: nothing goes wrong any more, and everything is done."""
        try:
            if hasattr(self, "acme"):
                self._calm_down()
                assert self._held_of_ours() == self._ours()
        finally:
            self.session.close()

    def _calm_down(self) -> None:
        self.mend()
        for _ in range(60):
            self._pass(timedelta(minutes=11))
            self.count()
            with unit_of_work(self.session):
                fold.fold(self.session, self.acme.tenant_id, now=self.clock.now)
            for _ in range(10):
                claims = self._claim(50)
                self._settle([(claim, self._send(claim)) for claim in claims])
                self._pass(timedelta(seconds=11))
            self.confirm()
            if self._held_of_ours() == self._ours():
                return

    def _held_of_ours(self) -> dict[Stream, Decimal]:
        return {key: value for key, value in self._held().items() if value}

    def _ours(self) -> dict[Stream, Decimal]:
        """Computed from what was ingested, and nothing else; by calendar months."""
        by_period: dict[tuple[Stream, int], list[tuple[datetime, str, Decimal, str]]]
        by_period = defaultdict(list)
        for key, (metric, customer, quantity, at, resource) in self.events.items():
            by_period[(metric, customer), at.month].append((at, key, quantity, resource))
        totals: dict[Stream, Decimal] = defaultdict(Decimal)
        for (stream, _), found in by_period.items():
            totals[stream] += _read(METRICS[stream[0]], found)
        return {key: value for key, value in totals.items() if value}


def _read(aggregation: str, events: list[tuple[datetime, str, Decimal, str]]) -> Decimal:
    match aggregation:
        case "sum":
            return sum((quantity for _, _, quantity, _ in events), Decimal(0))
        case "count":
            return Decimal(len(events))
        case "max":
            return max(quantity for _, _, quantity, _ in events)
        case "last":
            return max(events)[2]
    return Decimal(len({resource for _, _, _, resource in events}))


@pytest.mark.timeout(0)
def test_stripes_total_is_ours(engine: Engine) -> None:
    """SOAK_EXAMPLES asks for more than the usual 60 lives of 50 steps."""
    Machine.engine = engine
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=int(os.environ.get("SOAK_EXAMPLES", "60")),
            stateful_step_count=50,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
