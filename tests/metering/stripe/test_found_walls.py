"""Nobody bills through another tenant's account, by whatever field it is named."""

from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from metering.catalog import customers
from metering.database import unit_of_work
from metering.stripe import confirming, deltas
from metering.stripe.claims import LEASE
from metering.stripe.confirming import SETTLING
from metering.stripe.models import AccountBinding, Held
from tests.metering.stripe.conftest import AT
from tests.metering.stripe.test_deltas import NOON, use
from tests.metering.stripe.test_found_holding import told
from tests.stripe_setup import Connected, FakeStripe, add_mapping, add_meter, connect, push_all


@pytest.mark.parametrize(
    ("mapping", "customer", "default"),
    [
        ({"stripe_account": "theirs"}, {}, None),
        ({"stripe_account": None}, {"stripe_account": "theirs"}, None),
        ({"stripe_account": None}, {}, "theirs"),
    ],
    ids=["by the mapping", "by the customer", "by the keys"],
)
def test_another_tenants_account_is_called_by_no_field(
    session: Session,
    acme: Connected,
    stripe: FakeStripe,
    mapping: Mapping[str, Any],
    customer: Mapping[str, Any],
    default: str | None,
) -> None:
    """Even where we know a meter of that name in it, and their customer by name."""

    def meant(given: Mapping[str, Any]) -> dict[str, Any]:
        return {name: acme.account_id if it == "theirs" else it for name, it in given.items()}

    other = connect(session, now=AT)
    theirs = Connected(other.tenant_id, acme.account_id)
    add_meter(session, theirs, "api_calls")
    add_mapping(session, other, **meant(mapping))
    with unit_of_work(session):
        customers.edit(session, other.tenant_id, "cus_1", meant(customer), now=AT)
    use(session, other, (3, NOON))
    with unit_of_work(session):
        turn = deltas.claim(
            session,
            other.tenant_id,
            now=AT,
            default_account=acme.account_id if default else None,
        )
    assert turn.claims == []
    held = session.scalars(select(Held).where(Held.tenant_id == other.tenant_id)).one()
    assert held.kind == "unbound"
    assert acme.tenant_id not in held.reason


def test_an_item_of_anothers_customer_makes_nobody_pay(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    """A mapping for an item is for whoever has the item, which no stranger of ours does."""
    add_meter(session, acme, "vip")
    add_mapping(session, acme, "vip", subscription_item_id="si_of_somebody_else")
    use(session, acme, (3, NOON), metric="vip")
    push_all(session, acme, stripe, now=AT)
    assert stripe.calls == []


def test_an_account_that_changed_hands_is_neither_called_nor_read_any_more(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    """Not for what is on its way, nor to take back what was sent, nor to confirm it."""
    first, second = connect(session, now=AT), connect(session, now=AT)
    bind(session, second.account_id, first.tenant_id)
    for account_id in (first.account_id, second.account_id):
        add_meter(
            session, Connected(first.tenant_id, account_id), "api_calls", meter_id=f"m{account_id}"
        )
    add_mapping(session, first, stripe_account=None)
    for ref in ("cus_g", "cus_h"):
        told(session, first, ref, now=AT, stripe_account=first.account_id)
        use(session, first, (3, NOON), customer=ref)
    later = push_all(session, first, stripe, now=AT) + LEASE
    use(session, first, (5, NOON), customer="cus_h")
    with unit_of_work(session):
        assert len(deltas.claim(session, first.tenant_id, now=later).claims) == 1
    bind(session, first.account_id, acme.tenant_id)
    told(session, first, "cus_g", now=later, stripe_account=second.account_id)
    calls = len(stripe.calls)
    later = push_all(session, first, stripe, now=later + LEASE)
    assert {call.stream.account_id for call in stripe.calls[calls:]} == {second.account_id}
    assert sum(call.quantity for call in stripe.calls[calls:]) == 3
    with unit_of_work(session):
        checks = confirming.due(session, first.tenant_id, now=later + SETTLING)
    assert {check.stream.account_id for check in checks} == {second.account_id}


def bind(session: Session, account_id: str, tenant_id: str) -> None:
    """As an operator might, by hand."""
    with unit_of_work(session):
        session.execute(
            update(AccountBinding)
            .where(AccountBinding.account_id == account_id)
            .values(tenant_id=tenant_id)
        )
