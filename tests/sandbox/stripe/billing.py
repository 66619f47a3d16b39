"""A served world with a clock of its own, Stripe's own library before it, and what bills need."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import stripe

from sandbox.stripe.server import serving
from sandbox.stripe.world import World
from tests import stripe_spec
from tests.sandbox.stripe.calls import Clock

GRADUATED = [
    {"up_to": "1000", "unit_amount": 0, "flat_amount": 900},
    {"up_to": "inf", "unit_amount_decimal": "3.6", "flat_amount": 0},
]


def at(text: str) -> int:
    """Unix seconds of `2026-01-31` or `2026-01-31 10:23:45`, UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


class Shop:
    """A seller at Stripe's: `v1` is the library's."""

    def __init__(self, world: World, url: str) -> None:
        addresses: Any = {"api": url, "meter_events": url}
        self.world = world
        self.v1 = stripe.StripeClient("sk_test_1", base_addresses=addresses).v1
        self._sent = 0

    def meter(self, event_name: str = "calls", formula: str = "sum") -> Any:
        return self.v1.billing.meters.create(
            {
                "display_name": "Calls",
                "event_name": event_name,
                "default_aggregation": {"formula": formula},
            }
        )

    def metered(self, meter: Any, interval: str = "month", **amounts: Any) -> Any:
        return self.price(
            recurring={"interval": interval, "usage_type": "metered", "meter": meter.id}, **amounts
        )

    def price(self, **given: Any) -> Any:
        params: Any = {"currency": "usd", "product_data": {"name": "Usage"}, **given}
        return self.v1.prices.create(params)

    def graduated(self, meter: Any) -> Any:
        return self.metered(meter, billing_scheme="tiered", tiers_mode="graduated", tiers=GRADUATED)

    def customer(self, **given: Any) -> Any:
        return self.v1.customers.create({"name": "Ada", **given})

    def subscribe(self, customer: Any, *prices: Any, **given: Any) -> Any:
        params: Any = {"customer": customer.id, "billing_mode": {"type": "flexible"}, **given}
        params.setdefault("items", [{"price": each.id} for each in prices])
        return self.v1.subscriptions.create(params)

    def use(self, customer: Any, value: str, when: int, event_name: str = "calls") -> None:
        self._sent += 1
        self.v1.billing.meter_events.create(
            {
                "event_name": event_name,
                "identifier": f"use-{self._sent}",
                "payload": {"value": value, "stripe_customer_id": customer.id},
                "timestamp": when,
            }
        )

    def invoices(self, customer: Any) -> list[Any]:
        """The oldest first."""
        found = self.v1.invoices.list({"customer": customer.id, "limit": 100}).data
        return list(reversed(found))

    def events(self) -> list[tuple[str, int]]:
        """Types and instants, the oldest first."""
        found = self.v1.events.list({"limit": 100}).data
        return [(each.type, each.created) for each in reversed(found)]


@contextmanager
def open_shop(start: int) -> Iterator[Shop]:
    """Every exchange is held against Stripe's specification; what breaks it is told at the end."""
    clock = Clock()
    clock.instant = float(start)
    world = World(clock=clock)
    world.settings.limits = False
    with stripe_spec.held_against(world), serving(world) as url:
        yield Shop(world, url)


def amounts(invoice: Any) -> list[int]:
    return [each.amount for each in invoice.lines.data]


def bounds(item: Any) -> tuple[str, str]:
    """The item's period in words."""

    def told(instant: int) -> str:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(instant))

    return told(item.current_period_start), told(item.current_period_end)
