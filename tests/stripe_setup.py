"""A tenant connected to Stripe: what a sync would have written, without one."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.catalog import mappings, metrics
from metering.catalog.mirror import StripeMeter
from metering.catalog.models import MetricMapping
from metering.database import unit_of_work
from metering.stripe import deltas
from metering.stripe.claims import Claim, Outcome
from metering.stripe.models import AccountBinding, Push, PushStream
from metering.tenancy import tenants
from pricing.price import from_config

ACCEPTED = Outcome("accepted")
# The first 100 cost nothing, each further one $0.50.
TIERED = {
    "model": "graduated",
    "currency": "usd",
    "tiers": [{"upTo": 100, "unitPrice": "0"}, {"upTo": None, "unitPrice": "0.5"}],
}


@dataclass(frozen=True)
class Connected:
    """A live tenant with one account, one sum meter per metric, and mappings to it."""

    tenant_id: str
    account_id: str

    def total(self, session: Session, customer: str = "cus_1", meter: str = "api_calls") -> Decimal:
        """Σ of what Stripe holds by our own rows."""
        rows = session.execute(
            select(Push.quantity)
            .join(
                PushStream,
                (PushStream.tenant_id == Push.tenant_id) & (PushStream.stream_id == Push.stream_id),
            )
            .where(
                Push.tenant_id == self.tenant_id,
                Push.state != "rejected",
                PushStream.stripe_customer == customer,
                PushStream.event_name == meter,
            )
        )
        return sum((quantity for (quantity,) in rows), Decimal(0))


def connect(session: Session, *, mode: str = "live", now: datetime) -> Connected:
    """A fresh tenant with a Stripe account of its own."""
    name = uuid.uuid4().hex
    made = Connected(f"acme-{name}", f"acct_{name[:16]}")
    with unit_of_work(session):
        tenants.create(session, made.tenant_id, mode=mode, now=now)
        session.add(
            AccountBinding(
                account_id=made.account_id, tenant_id=made.tenant_id, bound_at=now, bound_by="test"
            )
        )
    return made


def add_meter(
    session: Session, to: Connected, event_name: str, *, mode: str = "live", **changes: Any
) -> str:
    """A meter as a sync would note it; its id."""
    meter_id = changes.pop("meter_id", None) or f"mtr_{event_name}_{mode}"
    values = {
        "event_name": event_name,
        "formula": "sum",
        "window": None,
        "is_active": True,
        "fetched_at": datetime.now(UTC),
        **changes,
    }
    with unit_of_work(session):
        session.merge(
            StripeMeter(
                tenant_id=to.tenant_id,
                mode=mode,
                account_id=to.account_id,
                meter_id=meter_id,
                **values,
            )
        )
    return meter_id


def add_mapping(
    session: Session, to: Connected, metric: str = "api_calls", **wanted: Any
) -> MetricMapping:
    """A mapping of the metric to the meter of its name, from the year 2026 on."""
    values = {
        "metric": metric,
        "meter_event_name": metric,
        "stripe_account": to.account_id,
        "shadow_stripe_account": to.account_id,
        **wanted,
    }
    since = values.pop("effective_from", datetime(2026, 1, 1, tzinfo=UTC))
    aggregation = values.get("aggregation")
    with unit_of_work(session):
        if aggregation == "unique":
            metrics.edit(session, to.tenant_id, metric, {"unique_enabled": True}, now=since)
        made = mappings.create(
            session, to.tenant_id, mappings.id_of(None), values, now=since - timedelta(hours=1)
        )
        made.effective_from = since
        session.flush()
    return made


def priced(session: Session, to: Connected, metric: str = "api_calls", **wanted: Any) -> Connected:
    """The tenant with a meter in both modes, and a mapping with a price."""
    for mode in ("live", "test"):
        add_meter(session, to, metric, mode=mode)
    add_mapping(session, to, metric, price=from_config(TIERED), currency="usd", **wanted)
    return to


class FakeStripe:
    """The sum of what was accepted, by stream; an answer for each call may be prescribed."""

    def __init__(self) -> None:
        self.accepted: dict[str, tuple[Claim, Decimal]] = {}
        self.next: list[Outcome | None] = []
        self.calls: list[Claim] = []

    def send(self, claim: Claim) -> Outcome:
        self.calls.append(claim)
        if self.next and (prescribed := self.next.pop(0)) is not None:
            return prescribed
        if claim.identifier in self.accepted:
            return Outcome("duplicate", "An event already exists with identifier", status=400)
        self.accepted[claim.identifier] = (claim, claim.quantity)
        return ACCEPTED

    def total(self, customer: str = "cus_1", event_name: str = "api_calls") -> Decimal:
        return sum(
            (
                quantity
                for claim, quantity in self.accepted.values()
                if (claim.stream.stripe_customer, claim.stream.event_name) == (customer, event_name)
            ),
            Decimal(0),
        )


def push_once(session: Session, to: Connected, stripe: FakeStripe, *, now: datetime) -> int:
    """One turn: claim, send, settle; the number of claims."""
    with unit_of_work(session):
        turn = deltas.claim(session, to.tenant_id, now=now, cadence=_at_once)
    outcomes = [(claim, stripe.send(claim)) for claim in turn.claims]
    with unit_of_work(session):
        deltas.settle(session, outcomes, now=now)
    return len(turn.claims)


def push_all(session: Session, to: Connected, stripe: FakeStripe, *, now: datetime) -> datetime:
    """Turns until nothing is due; the instant of the last, for time moves on between them."""
    for _ in range(200):
        with unit_of_work(session):
            turn = deltas.claim(session, to.tenant_id, now=now, cadence=_at_once)
        if not turn.claims and not turn.rows:
            return now
        outcomes = [(claim, stripe.send(claim)) for claim in turn.claims]
        with unit_of_work(session):
            deltas.settle(session, outcomes, now=now)
        now += timedelta(seconds=3)
    raise AssertionError("there is always something left to push")


def _at_once(mode: str, account_id: str) -> timedelta:
    return timedelta(0)


__all__ = [
    "ACCEPTED",
    "Connected",
    "FakeStripe",
    "add_mapping",
    "add_meter",
    "connect",
    "priced",
    "push_all",
    "push_once",
]
