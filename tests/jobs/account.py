"""An account at the stand-in that is ours to read, and the jobs that read it, all by one clock."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
import stripe
from sqlalchemy.orm import Session

from jobs import catalogue, deltas, stripe_calls
from jobs.runtime import hints
from metering.catalog.mirror import (
    StripeCustomer,
    StripeInvoice,
    StripeMeter,
    StripePrice,
    SubscriptionItem,
)
from metering.counters import fold
from metering.database import unit_of_work
from sandbox.stripe.pipeline import KIND
from sandbox.stripe.world import World
from tests import stripe_spec
from tests.stripe_setup import Connected, connect
from tests.stripe_world import LIVE_KEY, Clock, WorldClient, driver_of
from tests.support import entry, put
from webapp import clock as wall

GRADUATED = [
    {"up_to": "1000", "unit_amount": 0, "flat_amount": 900},
    {"up_to": "inf", "unit_amount_decimal": "3.6", "flat_amount": 0},
]
MIRRORS = (StripeMeter, StripePrice, StripeCustomer, SubscriptionItem, StripeInvoice)


class Account:
    """What Stripe has of a live tenant, with all that it does by default but for its latency.

    v1: Stripe's own library, as the seller uses it.
    """

    def __init__(self, session: Session, clock: Clock) -> None:
        self.session, self.clock = session, clock
        self.world = World(clock=clock)
        self.acme: Connected = connect(session, now=clock.now)
        self.driver = driver_of(self.world, self.acme.account_id)
        self.v1: Any = stripe.StripeClient(LIVE_KEY, http_client=WorldClient(self.world)).v1
        self.partition = self.world.partition(self.acme.account_id, livemode=True)
        self._sent = 0

    def go_to(self, instant: datetime) -> None:
        """Let time pass, and Stripe do what falls due by then."""
        self.clock.now = instant
        self.world.tick()
        self.world.settle()

    # What the seller makes in Stripe

    def meter(self, event_name: str = "api_calls") -> Any:
        return self.v1.billing.meters.create(
            {
                "display_name": event_name,
                "event_name": event_name,
                "default_aggregation": {"formula": "sum"},
                "customer_mapping": {"event_payload_key": "stripe_customer_id", "type": "by_id"},
                "value_settings": {"event_payload_key": "value"},
            }
        )

    def price(self, meter: Any) -> Any:
        recurring = {"interval": "month", "usage_type": "metered", "meter": meter.id}
        return self.v1.prices.create(
            {
                "currency": "usd",
                "product_data": {"name": "Usage"},
                "recurring": recurring,
                "billing_scheme": "tiered",
                "tiers_mode": "graduated",
                "tiers": GRADUATED,
            }
        )

    def customer(self, ref: str) -> Any:
        named = {"stripemeter_customer_ref": ref}
        return self.v1.customers.create({"name": ref, "metadata": named})

    def subscribe(self, customer: Any, price: Any) -> Any:
        return self.v1.subscriptions.create(
            {
                "customer": customer.id,
                "items": [{"price": price.id}],
                "billing_mode": {"type": "flexible"},
            }
        )

    # What is used, and what the jobs do

    def use(self, quantity: object, ts: str, customer: str = "aurora") -> None:
        self._sent += 1
        used = entry(f"e{self._sent}", quantity, ts, customer=customer)
        put(self.session, self.acme.tenant_id, [used], now=self.clock.now)
        with unit_of_work(self.session):
            fold.fold(self.session, self.acme.tenant_id, now=self.clock.now)

    def read(self) -> None:
        catalogue.full(self.acme.tenant_id, "live", self.acme.account_id)

    def hear(self) -> None:
        catalogue.read_events(self.acme.tenant_id, "live", self.acme.account_id)

    def push(self) -> int:
        return deltas.push(self.acme.tenant_id)

    # What came of it

    def held(self) -> dict[int, Decimal]:
        """What Stripe has accepted, by the timestamp."""
        found: dict[int, Decimal] = {}
        for event in self.partition.of(KIND).values():
            if event["state"] != "rejected":
                at = event["timestamp"]
                found[at] = found.get(at, Decimal(0)) + Decimal(event["value"])
        return {at: value for at, value in found.items() if value}

    def mirrored(self, model: Any) -> list[Any]:
        self.session.rollback()
        self.session.expire_all()
        return self.session.query(model).filter_by(tenant_id=self.acme.tenant_id).all()


@contextmanager
def opened(session: Session, at: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """Every exchange, ours too, is held against Stripe's specification."""
    clock = Clock(at)
    made = Account(session, clock)
    monkeypatch.setattr(wall, "wall", lambda: clock.now)
    monkeypatch.setattr(stripe_calls, "driver", lambda: made.driver)
    # Handled here, as while Redis is away.
    monkeypatch.setattr(hints(), "handle_webhook", lambda *named: False)
    with stripe_spec.held_against(made.world):
        yield made
