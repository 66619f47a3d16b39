"""However customers, mappings, meters and subscriptions change, each unit is at Stripe once, and
where it belongs by now.

A Hypothesis machine beside `test_stripe_machine`: there Stripe goes wrong, here our own world moves
while usage is on its way.
"""

import os
from collections import defaultdict
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from sqlalchemy import select
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from metering.catalog import customers, mappings
from metering.catalog.models import MetricMapping
from metering.counters import fold
from metering.database import unit_of_work
from metering.stripe import deltas, schedules, sync, unsent
from metering.stripe.claims import LEASE
from metering.stripe.spans import Periods, Source
from metering.stripe.sync import Place
from tests.scenarios.test_stripe_machine import _read
from tests.stripe_objects import item, price, subscription
from tests.stripe_setup import FakeStripe, add_mapping, add_meter, connect
from tests.stripe_world import noon
from tests.support import entry, put

HOUR = timedelta(hours=1)
METRICS = {"calls": "sum", "peak": "max", "seats": "last", "users": "unique"}
REFS = ("ann", "bob")
METERS = ("first", "second")
Stream = tuple[str, str]
Event = tuple[datetime, str, Decimal, str]


class Moves(RuleBasedStateMachine):
    """One tenant, one metric, two refs that may be one customer of Stripe's, two meters."""

    engine: Engine

    def __init__(self) -> None:
        super().__init__()
        self.now = noon()
        self.session = Session(self.engine)
        self.events: dict[str, list[Event]] = defaultdict(list)
        self.stripe = FakeStripe()

    @initialize(metric=st.sampled_from(sorted(METRICS)))
    def begin(self, metric: str) -> None:
        self.metric = metric
        self.acme = connect(self.session, now=self.now)
        for meter in METERS:
            add_meter(self.session, self.acme, meter)
        self.meter = METERS[0]
        add_mapping(
            self.session,
            self.acme,
            metric,
            meter_event_name=self.meter,
            aggregation=METRICS[metric],
        )
        for ref in REFS:
            self.is_now(ref, f"cus_{ref}")

    @rule(
        ref=st.sampled_from(REFS),
        quantity=st.integers(0, 50),
        minutes_ago=st.sampled_from([0, 20, 59, 60 * 5, 60 * 24 * 6]),
        resource=st.sampled_from("abcd"),
    )
    def use(self, ref: str, quantity: int, minutes_ago: int, resource: str) -> None:
        key = f"e{sum(len(found) for found in self.events.values()):04}"
        at = self.now - timedelta(minutes=minutes_ago)
        self.events[ref].append((at, key, Decimal(quantity), resource))
        event = entry(key, quantity, at, metric=self.metric, customer=ref, resource=resource)
        put(self.session, self.acme.tenant_id, [event], now=self.now)
        with unit_of_work(self.session):
            fold.fold(self.session, self.acme.tenant_id, now=self.now)

    @rule(ref=st.sampled_from(REFS), customer=st.sampled_from(["cus_ann", "cus_bob", "cus_new"]))
    def is_now(self, ref: str, customer: str) -> None:
        with unit_of_work(self.session):
            changes = {"stripe_customer_id": customer}
            customers.edit(self.session, self.acme.tenant_id, ref, changes, now=self.now)
            schedules.apply_for_customer(self.session, self.acme.tenant_id, ref, now=self.now)

    @rule(ref=st.sampled_from(REFS))
    def is_nobody(self, ref: str) -> None:
        with unit_of_work(self.session):
            changes = {"stripe_customer_id": None}
            customers.edit(self.session, self.acme.tenant_id, ref, changes, now=self.now)
            schedules.apply_for_customer(self.session, self.acme.tenant_id, ref, now=self.now)

    @rule(number=st.integers(0, 1), is_active=st.booleans())
    def meter_is(self, number: int, is_active: bool) -> None:
        """Without anybody being told: what is held finds out by itself."""
        add_meter(self.session, self.acme, METERS[number], is_active=is_active)

    @rule()
    def go_to_the_other_meter(self) -> None:
        """The mapping ends now, and another begins at the next full hour."""
        tenant_id = self.acme.tenant_id
        self.meter = METERS[1 - METERS.index(self.meter)]
        with unit_of_work(self.session):
            for mapping in self._mappings():
                mappings.end(self.session, tenant_id, mapping.mapping_id, now=self.now)
            wanted = {
                "metric": self.metric,
                "aggregation": METRICS[self.metric],
                "meter_event_name": self.meter,
                "stripe_account": self.acme.account_id,
            }
            mappings.create(self.session, tenant_id, mappings.id_of(None), wanted, now=self.now)
            schedules.apply_for_metric(self.session, tenant_id, self.metric, now=self.now)
            since = self.now - timedelta(days=30)
            unsent.mark_metric(self.session, tenant_id, self.metric, since=since, now=self.now)
        self.now = mappings.next_full_hour(self.now + timedelta(seconds=1))

    @rule(
        customer=st.sampled_from(["cus_ann", "cus_bob", "cus_new"]),
        days_ago=st.sampled_from([1, 4, 20]),
        minutes=st.sampled_from([0, 23]),
        is_over=st.booleans(),
    )
    def subscribed(self, customer: str, days_ago: int, minutes: int, is_over: bool) -> None:
        """A subscription becomes known, or is told anew: it began then, or is over since."""
        start = noon() - timedelta(days=days_ago) + timedelta(minutes=minutes)
        meter_id = f"mtr_{self.meter}_live"
        billed = item(
            f"si_{customer}",
            price(f"price_{self.meter}", meter_id),
            start=start,
            end=start + timedelta(days=30),
            created=start,
        )
        ended = {"status": "canceled", "ended_at": self.now} if is_over else {}
        told = subscription(
            billed,
            id=f"sub_{customer}",
            customer=customer,
            anchor_at=start,
            started_at=start,
            created_at=start,
            **ended,
        )
        place = Place(self.acme.tenant_id, "live", self.acme.account_id)
        with unit_of_work(self.session):
            sync.note_subscriptions(self.session, place, [told], now=self.now)

    @rule(crash=st.sampled_from(["", "", "claimed", "sent"]), most=st.sampled_from([1, 50]))
    def push(self, crash: str, most: int) -> None:
        with unit_of_work(self.session):
            turn = deltas.claim(
                self.session,
                self.acme.tenant_id,
                now=self.now,
                most=most,
                cadence=lambda mode, account: timedelta(0),
            )
        if crash == "claimed":
            return
        outcomes = [(claim, self.stripe.send(claim)) for claim in turn.claims]
        if crash != "sent":
            with unit_of_work(self.session):
                deltas.settle(self.session, outcomes, now=self.now)

    @rule(minutes=st.sampled_from([1, 30, 120]))
    def wait(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    def teardown(self) -> None:
        """All is mended, and everything is sent."""
        try:
            if hasattr(self, "acme"):
                self._calm_down()
                assert self._held() == self._ours()
        finally:
            self.session.close()

    def _calm_down(self) -> None:
        for meter in METERS:
            add_meter(self.session, self.acme, meter)
        for ref in REFS:
            if self._customer(ref) is None:
                self.is_now(ref, f"cus_{ref}")
        self.now = mappings.next_full_hour(self.now) + LEASE
        for _ in range(60):
            with unit_of_work(self.session):
                unsent.release_due(
                    self.session, self.acme.tenant_id, now=self.now, later=self.now + HOUR
                )
            for _ in range(8):
                self.push("", 50)
                self.now += timedelta(seconds=3)
            if self._held() == self._ours():
                return
            self.now += timedelta(minutes=15)

    def _held(self) -> dict[Stream, Decimal]:
        held: dict[Stream, Decimal] = defaultdict(Decimal)
        for claim, quantity in self.stripe.accepted.values():
            held[claim.stream.event_name, claim.stream.stripe_customer] += quantity
        return {key: value for key, value in held.items() if value}

    def _ours(self) -> dict[Stream, Decimal]:
        """From the events, the mappings and the periods as they are by now."""
        totals: dict[Stream, Decimal] = defaultdict(Decimal)
        periods = Periods(
            self.session, self.acme.tenant_id, [Source(ref, self.metric) for ref in REFS]
        )
        for ref, events in self.events.items():
            by_period: dict[datetime, list[Event]] = defaultdict(list)
            for event in events:
                period = periods.at(Source(ref, self.metric), event[0])
                by_period[period.start_at].append(event)
            for start_at, found in by_period.items():
                for mapping in self._mappings():
                    key = str(mapping.meter_event_name), str(self._customer(ref))
                    totals[key] += self._billed(start_at, found, mapping)
        self.session.rollback()
        return {key: value for key, value in totals.items() if value}

    def _billed(self, start_at: datetime, events: list[Event], mapping: MetricMapping) -> Decimal:
        """What a period's reading grew by while the mapping held, by whole segments."""

        def until(instant: datetime | None) -> Decimal:
            before = [
                event
                for event in events
                if instant is None or max(event[0].replace(minute=0, second=0), start_at) < instant
            ]
            return _read(METRICS[self.metric], before) if before else Decimal(0)

        return until(mapping.effective_until) - until(mapping.effective_from)

    def _mappings(self) -> list[MetricMapping]:
        return list(
            self.session.scalars(
                select(MetricMapping)
                .filter_by(tenant_id=self.acme.tenant_id)
                .execution_options(populate_existing=True)
            )
        )

    def _customer(self, ref: str) -> str | None:
        known = customers.find(self.session, self.acme.tenant_id, ref)
        return None if known is None else known.stripe_customer_id


@pytest.mark.timeout(0)
def test_each_unit_is_at_stripe_once_and_where_it_belongs(engine: Engine) -> None:
    """SOAK_EXAMPLES asks for more than the usual 30 lives of 30 steps."""
    Moves.engine = engine
    run_state_machine_as_test(
        Moves,
        settings=settings(
            max_examples=int(os.environ.get("SOAK_EXAMPLES", "30")),
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
