"""Whatever a customer's usage cannot be sent for is seen, with the way out; others are not held up,
and once it is mended nothing is missing."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete
from sqlalchemy.orm import Session

from metering.catalog import customers
from metering.catalog.mirror import StripeCustomer, StripeMeter, StripePrice, SubscriptionItem
from metering.catalog.models import MetricMapping
from metering.database import unit_of_work
from metering.stripe import retrying, stuck
from tests.metering.stripe.conftest import AT
from tests.metering.stripe.test_deltas import NOON, use
from tests.stripe_setup import Connected, FakeStripe, add_mapping, add_meter, connect, push_all

Step = Callable[[Session, Connected], None]


@pytest.fixture
def acme(session: Session) -> Connected:
    """`api_calls` is sound; `tokens` is about to meet an obstacle."""
    made = connect(session, now=AT)
    for metric in ("api_calls", "tokens"):
        add_meter(session, made, metric)
        add_mapping(session, made, metric)
    return made


def meter(**changes: Any) -> Step:
    return lambda session, acme: void(add_meter(session, acme, "tokens", **changes))


def void(_: object) -> None:
    return None


def no_meter(session: Session, acme: Connected) -> None:
    with unit_of_work(session):
        session.execute(
            delete(StripeMeter).where(
                StripeMeter.tenant_id == acme.tenant_id, StripeMeter.event_name == "tokens"
            )
        )


def account(account_id: str | None) -> Step:
    """The mapping names this account; `own`: the tenant's."""

    def do(session: Session, acme: Connected) -> None:
        with unit_of_work(session):
            session.query(MetricMapping).filter_by(
                tenant_id=acme.tenant_id, metric="tokens"
            ).update({"stripe_account": acme.account_id if account_id == "own" else account_id})

    return do


def told(**changes: Any) -> Step:
    def do(session: Session, acme: Connected) -> None:
        with unit_of_work(session):
            customers.edit(session, acme.tenant_id, "cus_1", changes, now=AT)

    return do


def deleted(session: Session, acme: Connected) -> None:
    with unit_of_work(session):
        session.add(
            StripeCustomer(
                tenant_id=acme.tenant_id,
                mode="live",
                account_id=acme.account_id,
                stripe_customer="cus_1",
                is_deleted=True,
                fetched_at=AT,
            )
        )


def items(*statuses: str) -> Step:
    """Subscriptions of the customer on the meter."""

    def do(session: Session, acme: Connected) -> None:
        with unit_of_work(session):
            for number, status in enumerate(statuses):
                session.merge(
                    SubscriptionItem(
                        tenant_id=acme.tenant_id,
                        mode="live",
                        account_id=acme.account_id,
                        item_id=f"si_{number}",
                        subscription_id=f"sub_{number}",
                        stripe_customer="cus_1",
                        price_id="price_1",
                        meter_id="mtr_tokens_live",
                        status=status,
                        interval="month",
                        interval_count=1,
                        anchor_at=NOON,
                        current_start=NOON,
                        current_end=NOON + timedelta(days=30),
                        started_at=NOON,
                        fetched_at=AT,
                    )
                )

    return do


def their_price(acme: Connected) -> StripePrice:
    return StripePrice(
        tenant_id=acme.tenant_id,
        mode="live",
        account_id=acme.account_id,
        price_id="price_theirs",
        meter_id="mtr_tokens_live",
        currency="usd",
        is_active=True,
        fetched_at=AT,
    )


@pytest.mark.parametrize(
    ("breaks", "mends", "cause", "way_out", "arrives_at"),
    [
        (account(None), account("own"), "no_account", "set STRIPE_ACCOUNT", "cus_1"),
        (account("acct_free"), account("own"), "unbound", "stripemeter stripe bind", "cus_1"),
        (no_meter, meter(), "no_meter", "stripemeter stripe sync", "cus_1"),
        (meter(is_active=False), meter(), "meter_inactive", "reactivate it", "cus_1"),
        (meter(window="hour"), meter(), "meter_window", "without event_time_window", "cus_1"),
        (meter(formula="count"), meter(), "meter_formula", "whose formula is sum", "cus_1"),
        (meter(formula="last"), meter(), "meter_formula", "whose formula is sum", "cus_1"),
        (
            items("active", "active"),
            items("active", "canceled"),
            "conflict",
            "end all but one",
            "cus_1",
        ),
        (
            deleted,
            told(stripe_customer_id="cus_new"),
            "deleted_customer",
            "name another of Stripe's customers",
            "cus_new",
        ),
    ],
)
def test_what_is_in_the_way_is_seen_and_can_be_mended(
    session: Session,
    acme: Connected,
    breaks: Step,
    mends: Step,
    cause: str,
    way_out: str,
    arrives_at: str,
) -> None:
    stripe = FakeStripe()
    use(session, acme, (1, NOON - timedelta(hours=1)), metric="tokens", customer="cus_2")
    now = push_all(session, acme, stripe, now=AT)
    breaks(session, acme)
    use(session, acme, (3, NOON), metric="tokens")
    use(session, acme, (5, NOON), metric="api_calls", customer="cus_2")
    now = push_all(session, acme, stripe, now=now)
    assert stripe.total("cus_1", "tokens") == 0
    assert stripe.total("cus_2", "api_calls") == 5
    assert stripe.total("cus_2", "tokens") == 1
    [found] = stuck.everything(session, acme.tenant_id)
    assert (found.finding.kind, found.finding.cause) == ("held", cause)
    assert way_out in found.finding.reason + found.finding.way_out
    assert found.finding.way_out
    assert found.finding.may_retry
    assert found.stake.quantity == 3

    mends(session, acme)
    with unit_of_work(session):
        assert retrying.held(session, acme.tenant_id, "live", "cus_1", "tokens", now=now)
    push_all(session, acme, stripe, now=now)
    assert stripe.total(arrives_at, "tokens") == 3
    assert stuck.everything(session, acme.tenant_id) == []


@pytest.mark.parametrize(
    "named",
    [
        {"meter_event_name": "tokens"},
        {"meter_event_name": None, "meter_id": "mtr_tokens_live"},
        {"meter_event_name": None, "price_id": "price_theirs"},
    ],
    ids=["by the event's name", "meter", "price"],
)
def test_a_meter_or_price_of_another_tenants_is_none_here(
    session: Session, acme: Connected, named: Mapping[str, Any]
) -> None:
    """What a mapping names is looked for in the tenant's own account only."""
    with unit_of_work(session):
        session.add(their_price(acme))
    other = connect(session, now=AT)
    add_mapping(session, other, "tokens", **named)
    stripe = FakeStripe()
    use(session, other, (3, NOON), metric="tokens")
    push_all(session, other, stripe, now=AT)
    assert stripe.calls == []
    [found] = stuck.everything(session, other.tenant_id)
    assert (found.finding.kind, found.finding.cause) == ("held", "no_meter")


def test_a_customer_of_another_tenants_is_a_stranger_here(
    session: Session, acme: Connected
) -> None:
    """Named by id or by its metadata: usage goes to the tenant's own account, or nowhere."""
    with unit_of_work(session):
        session.add(
            StripeCustomer(
                tenant_id=acme.tenant_id,
                mode="live",
                account_id=acme.account_id,
                stripe_customer="cus_theirs",
                customer_ref="globex",
                is_deleted=False,
                fetched_at=AT,
            )
        )
    other = connect(session, now=AT)
    add_meter(session, other, "tokens")
    add_mapping(session, other, "tokens")
    told(stripe_customer_id="cus_theirs")(session, other)
    stripe = FakeStripe()
    for customer in ("cus_1", "globex"):
        use(session, other, (3, NOON), metric="tokens", customer=customer)
    push_all(session, other, stripe, now=AT)
    [call] = stripe.calls
    assert (call.stream.account_id, call.stream.stripe_customer) == (
        other.account_id,
        "cus_theirs",
    )
    [found] = stuck.everything(session, other.tenant_id)
    assert (found.finding.cause, found.finding.sources[0].customer_ref) == ("unmapped", "globex")
