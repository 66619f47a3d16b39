"""What a metric needs in Stripe is made there once, and the metric is mapped to it."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from sqlalchemy.orm import Session

from metering.catalog import mappings
from metering.catalog.models import MetricMapping
from metering.database import unit_of_work
from metering.errors import ConflictError, InvalidInputError
from metering.stripe import accounts, answers, parsing, provision
from metering.stripe.calls import Calls
from metering.stripe.provision import Made, Wanted
from metering.stripe.sync import Place
from pricing.price import from_config
from tests import stripe_objects
from tests.stripe_objects import MAY

TIERED = from_config(
    {
        "model": "graduated",
        "currency": "usd",
        "tiers": [{"upTo": 100, "unitPrice": "0.1"}, {"upTo": None, "unitPrice": "0.05"}],
    }
)


class Account:
    """Meters and prices of an account, made once per idempotency key as Stripe does."""

    def __init__(self) -> None:
        self.made: dict[str, Any] = {}
        self.meters_there: list[answers.Meter] = []

    def meters(self, mode: str, account: str, *, status: str | None = None) -> Iterator[Any]:
        yield from (meter for meter in self.meters_there if meter.is_active or status is None)

    def prices(self, mode: str, account: str, *, active: bool | None = None) -> Iterator[Any]:
        yield from (made for made in self.made.values() if isinstance(made, answers.Price))

    def create_meter(self, mode: str, account: str, *, idempotency_key: str, **given: Any) -> Any:
        meter = stripe_objects.meter(f"mtr_{len(self.meters_there)}", given["event_name"])
        self.meters_there.append(meter)
        return self.made.setdefault(idempotency_key, meter)

    def create_product(self, mode: str, account: str, *, idempotency_key: str, **_: Any) -> Any:
        product = answers.Product(f"prod_{len(self.made)}", "calls", is_active=True)
        return self.made.setdefault(idempotency_key, product)

    def create_price(
        self, mode: str, account: str, parameters: Any, *, idempotency_key: str
    ) -> Any:
        obj = {"id": f"price_{len(self.made)}", "object": "price", "active": True, **parameters}
        return self.made.setdefault(idempotency_key, parsing.price(obj))


@pytest.fixture
def account() -> Account:
    return Account()


@pytest.fixture
def place(session: Session, tenant: str, now: datetime) -> Place:
    account_id = f"acct_{tenant[2:18].replace('-', '')}"
    with unit_of_work(session):
        accounts.bind(session, tenant, account_id, bound_by="test", now=now)
    return Place(tenant, "test", account_id)


def run(
    session: Session, place: Place, account: Account, price: Any = TIERED
) -> tuple[Made, MetricMapping]:
    wanted = Wanted("calls", "api.calls", price)
    made = provision.make(cast("Calls", account), place, wanted)
    with unit_of_work(session):
        mapping = provision.note(session, place, wanted, made, asked_at=MAY, now=MAY)
    return made, mapping


def test_twice_is_once(session: Session, place: Place, account: Account) -> None:
    made, mapping = run(session, place, account)
    again, same = run(session, place, account)
    assert (made.is_new, again.is_new) == ((True, True), (False, False))
    assert (made.meter, made.price) == (again.meter, again.price)
    assert mapping.mapping_id == same.mapping_id
    assert len(account.made) == 3
    assert (mapping.is_active, mapping.is_shadow) == (True, True)
    assert (mapping.meter_event_name, mapping.shadow_price_id) == ("api.calls", made.price.id)
    recurring = made.price.json["recurring"]
    assert recurring == {
        "interval": "month", "interval_count": 1, "usage_type": "metered", "meter": made.meter.id,
    }  # fmt: skip


def test_another_price_is_another_price_on_the_same_meter(
    session: Session, place: Place, account: Account
) -> None:
    first, _ = run(session, place, account)
    other = from_config({"model": "per_unit", "currency": "usd", "unitPrice": "0.2"})
    second, mapping = run(session, place, account, other)
    assert second.meter == first.meter
    assert second.price.id != first.price.id
    assert mapping.shadow_price_id == second.price.id
    assert mapping.price is not None
    assert mapping.price["unitPrice"] == "0.2"


def test_a_mapping_that_is_there_is_led_to_the_meter(
    session: Session, place: Place, account: Account
) -> None:
    with unit_of_work(session):
        there = mappings.create(
            session, place.tenant_id, mappings.id_of(None), {"metric": "calls"}, now=MAY
        )
    _, mapping = run(session, place, account)
    assert mapping.mapping_id == there.mapping_id


def test_a_mapping_that_only_priced_is_followed_by_one_that_sends(
    session: Session, place: Place, account: Account
) -> None:
    """What is past may have been billed by other means."""
    past = MAY - timedelta(days=9)
    with unit_of_work(session):
        given = {"metric": "calls", "aggregation": "max", "effective_from": past}
        there = mappings.create(session, place.tenant_id, mappings.id_of(None), given, now=past)
    _, mapping = run(session, place, account)
    session.refresh(there)
    assert (there.effective_until, there.meter_event_name) == (MAY, None)
    assert (mapping.effective_from, mapping.effective_until) == (MAY, None)
    assert (mapping.aggregation, mapping.meter_event_name) == ("max", "api.calls")
    _, same = run(session, place, account)
    assert same.mapping_id == mapping.mapping_id


@pytest.mark.parametrize(
    ("changes", "why"), [({"window": "hour"}, "latest event"), ({"formula": "count"}, "added up")]
)
def test_a_meter_that_would_lose_deltas_is_refused(
    session: Session, place: Place, account: Account, changes: dict[str, Any], why: str
) -> None:
    account.meters_there = [stripe_objects.meter("mtr_9", "api.calls", **changes)]
    with pytest.raises(ConflictError, match=why):
        run(session, place, account)
    assert account.made == {}


def test_a_price_that_stripe_cannot_hold_makes_nothing(
    session: Session, place: Place, account: Account
) -> None:
    capped = from_config(
        {"model": "per_unit", "currency": "usd", "unitPrice": "1", "maximumCharge": "9"}
    )
    with pytest.raises(InvalidInputError, match="Stripe cannot hold"):
        run(session, place, account, capped)
    assert (account.made, account.meters_there) == ({}, [])
