"""Where a tenant stands with Stripe: what waits, what is stuck, and the money that hangs on it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from metering.catalog import customers
from metering.counters import fold
from metering.database import unit_of_work
from metering.stripe import confirming, deltas, retrying, settling, standing, stuck, tally
from metering.stripe.claims import Outcome
from metering.stripe.confirming import SETTLING
from metering.stripe.models import Connection, Push
from metering.stripe.stakes import together
from metering.stripe.standing import Standing
from metering.stripe.stuck import Stuck
from tests.stripe_setup import (
    Connected,
    FakeStripe,
    add_mapping,
    add_meter,
    connect,
    priced,
    push_all,
    push_once,
)
from tests.support import entry, put

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def at() -> datetime:
    return NOON + timedelta(minutes=30)


@pytest.fixture
def acme(session: Session, at: datetime) -> Connected:
    return priced(session, connect(session, now=at))


def use(
    session: Session,
    to: Connected,
    quantity: object,
    ts: datetime = NOON,
    *,
    customer: str = "cus_1",
    metric: str = "api_calls",
) -> None:
    key = f"{ts.isoformat()}-{customer}-{metric}-{quantity}"
    put(session, to.tenant_id, [entry(key, quantity, ts, customer=customer, metric=metric)], now=ts)
    with unit_of_work(session):
        fold.fold(session, to.tenant_id, now=NOON)


def live(session: Session, to: Connected, now: datetime) -> Standing:
    [found, _] = standing.overview(session, to.tenant_id, now=now)
    assert found.mode == "live"
    return found


def only(session: Session, to: Connected) -> Stuck:
    [found] = stuck.everything(session, to.tenant_id)
    return found


def test_of_nothing_nothing_stands(session: Session, tenant: str, at: datetime) -> None:
    for found in standing.overview(session, tenant, now=at):
        assert (found.is_used, found.is_stuck, found.unsent) == (False, False, 0)
    assert stuck.everything(session, tenant) == []
    assert [each.mode for each in standing.overview(session, "nobody", now=at)] == ["live", "test"]


def test_usage_waits_is_on_its_way_is_accepted_and_is_confirmed(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    use(session, acme, 3)
    found = live(session, acme, at)
    assert (found.mappings, found.unsent, found.oldest_unsent_at) == (1, 1, NOON)
    with unit_of_work(session):
        [claim] = deltas.claim(session, acme.tenant_id, now=at).claims
    found = live(session, acme, at)
    assert (found.unsent, found.on_the_way, found.unconfirmed) == (0, 1, 0)
    with unit_of_work(session):
        deltas.settle(session, [(claim, stripe.send(claim))], now=at)
    found = live(session, acme, at)
    assert (found.on_the_way, found.unconfirmed, found.confirmed) == (0, 1, 0)
    assert found.oldest_unconfirmed_at == at
    assert found.last_answer_at == at
    later = at + SETTLING
    with unit_of_work(session):
        [check] = confirming.due(session, acme.tenant_id, now=later)
        confirming.judge(session, check, {NOON: Decimal(3)}, now=later)
    found = live(session, acme, later)
    assert (found.unconfirmed, found.confirmed, found.is_stuck) == (0, 1, False)
    assert tally.read(session, acme.tenant_id) == {
        ("live", "accepted"): 1,
        ("live", "confirmed"): 1,
    }


def test_a_customer_who_is_nobody_in_stripe_is_held_with_its_money(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    use(session, acme, 150, customer="globex")
    use(session, acme, 74, NOON - HOUR, customer="globex")
    push_all(session, acme, stripe, now=at)
    found = only(session, acme)
    finding, stake = found.finding, found.stake
    assert (finding.kind, finding.cause, finding.mode) == ("held", "unmapped", "live")
    assert finding.sources[0].customer_ref == "globex"
    assert "globex" in finding.reason
    assert finding.way_out.startswith("set its stripeCustomerId at /v1/customers")
    assert finding.may_retry
    # 224 in all, 124 of them beyond the free ones.
    assert stake.quantity == 224
    assert (stake.amount, stake.currency and stake.currency.code) == (6200, "usd")
    counts = live(session, acme, at)
    assert (counts.held, counts.held_customers, counts.is_stuck) == (1, 1, True)


def test_what_was_held_is_sent_once_it_can_be_and_is_retried(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    use(session, acme, 150, customer="globex")
    push_all(session, acme, stripe, now=at)
    with unit_of_work(session):
        customers.edit(session, acme.tenant_id, "globex", {"stripe_customer_id": "cus_9"}, now=at)
    named = (acme.tenant_id, "live", "globex", "api_calls")
    for _ in range(2):
        with unit_of_work(session):
            assert retrying.held(session, *named, now=at)
    push_all(session, acme, stripe, now=at)
    assert stripe.total("cus_9") == 150
    assert stuck.everything(session, acme.tenant_id) == []
    with unit_of_work(session):
        assert not retrying.held(session, *named, now=at)


def test_a_stream_that_stripe_refuses_names_what_it_said_and_is_retried(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    use(session, acme, 120, NOON - HOUR)
    later = push_all(session, acme, stripe, now=at)
    use(session, acme, 20)
    stripe.next = [Outcome("rejected", "No such customer: cus_1", status=400)]
    push_once(session, acme, stripe, now=later)
    found = only(session, acme)
    assert (found.finding.kind, found.finding.cause) == ("blocked", "rejected")
    assert "No such customer: cus_1" in found.finding.reason
    assert found.finding.since == later
    assert found.finding.next_try_at == later + settling.BLOCKED
    # 120 are there; the other 20 are beyond the free ones.
    assert (found.stake.quantity, found.stake.amount) == (20, 1000)
    stream_id = found.finding.stream_id
    assert stream_id is not None
    with unit_of_work(session):
        assert not retrying.blocked(session, acme.tenant_id, "str_no", now=later)
        assert retrying.blocked(session, acme.tenant_id, stream_id, now=later)
    push_all(session, acme, stripe, now=later)
    assert stripe.total() == 140
    assert stuck.everything(session, acme.tenant_id) == []
    with unit_of_work(session):
        assert not retrying.blocked(session, acme.tenant_id, stream_id, now=later)


def test_an_account_that_refuses_the_key_holds_everybodys_money(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    for customer in ("cus_1", "cus_2"):
        use(session, acme, 110, customer=customer)
    stripe.next = [Outcome("auth", "Invalid API Key provided", status=401)] * 2
    push_once(session, acme, stripe, now=at)
    use(session, acme, 4, NOON + timedelta(minutes=5))
    found = only(session, acme)
    assert (found.finding.kind, found.finding.cause) == ("halted", "auth")
    assert found.finding.account_id == acme.account_id
    assert "Invalid API Key provided" in found.finding.reason
    assert "nothing is lost" in found.finding.way_out
    assert found.finding.pushes == 2
    assert (found.stake.quantity, found.stake.amount) == (224, 1200)
    [halt] = live(session, acme, at).halts
    assert (halt.account_id, halt.kind) == (acme.account_id, "auth")
    again = at + timedelta(seconds=1)
    with unit_of_work(session):
        assert retrying.halted(session, acme.tenant_id, "live", acme.account_id, now=again)
        assert not retrying.halted(session, acme.tenant_id, "test", acme.account_id, now=again)
    push_all(session, acme, stripe, now=again)
    assert (stripe.total("cus_1"), stripe.total("cus_2")) == (114, 110)
    assert stuck.everything(session, acme.tenant_id) == []
    with unit_of_work(session):
        assert not retrying.halted(session, acme.tenant_id, "live", acme.account_id, now=again)


def test_trying_an_account_again_leaves_what_is_in_flight_alone(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    use(session, acme, 3)
    with unit_of_work(session):
        deltas.claim(session, acme.tenant_id, now=at)
        session.add(
            Connection(
                tenant_id=acme.tenant_id,
                mode="live",
                account_id=acme.account_id,
                halted_kind="unreachable",
                halted_reason="no answer",
                halted_until=at + HOUR,
                failures=9,
            )
        )
    with unit_of_work(session):
        assert retrying.halted(session, acme.tenant_id, "live", acme.account_id, now=at)
    with unit_of_work(session):
        assert deltas.claim(session, acme.tenant_id, now=at + timedelta(seconds=1)).claims == []


def test_that_stripe_wants_patience_is_no_trouble(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    use(session, acme, 3)
    stripe.next = [Outcome("retry", "Too many", status=429, retry_after=3)]
    push_once(session, acme, stripe, now=at)
    assert stuck.everything(session, acme.tenant_id) == []
    assert not live(session, acme, at).is_stuck


def test_a_push_in_doubt_cannot_be_hurried(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    use(session, acme, 130)
    stripe.next = [Outcome("duplicate", "An event already exists", status=400)]
    push_once(session, acme, stripe, now=at)
    found = only(session, acme)
    assert (found.finding.kind, found.finding.cause) == ("doubtful", "ambiguous")
    assert not found.finding.may_retry
    assert (found.finding.pushes, found.stake.quantity, found.stake.amount) == (1, 130, 1500)
    assert live(session, acme, at).doubtful == 1


def test_a_total_that_is_not_ours_is_drift_and_is_read_again_by_hand(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    use(session, acme, 5)
    push_all(session, acme, stripe, now=at)
    later = at + SETTLING
    with unit_of_work(session):
        [check] = confirming.due(session, acme.tenant_id, now=later)
        confirming.judge(session, check, {NOON: Decimal(7)}, now=later)
    found = only(session, acme)
    assert (found.finding.kind, found.stake.amount) == ("drift", None)
    assert "is 7, and what was pushed adds up to 5" in found.finding.reason
    assert live(session, acme, later).drifting == 1
    assert confirming.due(session, acme.tenant_id, now=later) == []
    with unit_of_work(session):
        assert retrying.drift(session, acme.tenant_id, check.stream_id)
        assert not retrying.drift(session, acme.tenant_id, "str_no")
    with unit_of_work(session):
        assert len(confirming.due(session, acme.tenant_id, now=later)) == 1


def test_what_no_invoice_would_bill_is_a_decision(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    use(session, acme, 130, NOON - timedelta(days=45))
    use(session, acme, 10, NOON - timedelta(days=40))
    push_all(session, acme, stripe, now=at)
    found = only(session, acme)
    assert (found.finding.kind, found.finding.cause) == ("unsendable", "too_old")
    assert not found.finding.may_retry
    # September's 130 and October's 10 are billed apart.
    assert (found.finding.pushes, found.stake.quantity, found.stake.amount) == (2, 140, 1500)
    assert live(session, acme, at).unsendable == 2


def test_the_largest_amount_comes_first_and_what_has_none_last(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    add_meter(session, acme, "free")
    add_mapping(session, acme, "free")
    for customer, quantity in (("a", 110), ("b", 500), ("c", 220)):
        use(session, acme, quantity, customer=customer)
    use(session, acme, 9, customer="d", metric="free")
    push_all(session, acme, stripe, now=at)
    every = stuck.everything(session, acme.tenant_id)
    refs = [each.finding.sources[0].customer_ref for each in every]
    assert refs == ["b", "c", "a", "d"]
    assert every[-1].stake.amount is None
    assert every[-1].stake.why_not
    assert [(c.code, amount) for c, amount in together(e.stake for e in every)] == [
        ("usd", 500 + 20_000 + 6_000)
    ]
    first = stuck.page(every, limit=2)
    rest = stuck.page(every, after=first[-1].place, limit=9)
    assert [*first, *rest] == every
    assert stuck.everything(session, acme.tenant_id, kind="blocked") == []
    assert stuck.everything(session, acme.tenant_id, mode="test") == []


def test_before_a_mapping_begins_nothing_is_at_stake(
    session: Session, stripe: FakeStripe, at: datetime
) -> None:
    acme = priced(session, connect(session, now=at), effective_from=NOON - timedelta(days=2))
    use(session, acme, 300, NOON - timedelta(days=5), customer="globex")
    use(session, acme, 8, customer="globex")
    push_all(session, acme, stripe, now=at)
    found = only(session, acme)
    # Of 308 the last 8 are ours to send; at their place in the price they are not free.
    assert (found.stake.quantity, found.stake.amount) == (8, 400)


def test_a_gauge_at_stake_is_read_as_its_mapping_reads_it(
    session: Session, stripe: FakeStripe, at: datetime
) -> None:
    acme = priced(session, connect(session, now=at), "seats", aggregation="max")
    for quantity, ts in ((140, NOON - HOUR), (120, NOON)):
        use(session, acme, quantity, ts, customer="globex", metric="seats")
    push_all(session, acme, stripe, now=at)
    found = only(session, acme)
    assert (found.stake.quantity, found.stake.amount) == (140, 2000)


def test_two_refs_of_one_customer_are_one_stream_priced_as_one(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    with unit_of_work(session):
        for ref in ("eu", "us"):
            customers.edit(session, acme.tenant_id, ref, {"stripe_customer_id": "cus_1"}, now=at)
    use(session, acme, 90, customer="eu")
    later = push_all(session, acme, stripe, now=at)
    use(session, acme, 30, customer="us")
    stripe.next = [Outcome("rejected", "no", status=400)]
    push_once(session, acme, stripe, now=later)
    found = only(session, acme)
    assert [source.customer_ref for source in found.finding.sources] == ["eu", "us"]
    assert (found.stake.quantity, found.stake.amount) == (30, 1000)


def test_the_way_out_names_the_field_of_the_mode(
    session: Session, stripe: FakeStripe, at: datetime
) -> None:
    shadowed = priced(session, connect(session, now=at), is_active=False, is_shadow=True)
    sandboxed = priced(session, connect(session, mode="test", now=at), is_shadow=True)
    for to in (shadowed, sandboxed):
        use(session, to, 150, customer="globex")
        push_all(session, to, stripe, now=at)
    # A live tenant's stripeCustomerId says nothing of test mode; a test tenant's does.
    with unit_of_work(session):
        told = {"stripe_customer_id": "cus_live"}
        customers.edit(session, shadowed.tenant_id, "globex", told, now=at)
    held = only(session, shadowed).finding
    assert held.way_out.startswith("set its shadowStripeCustomerId at /v1/customers")
    assert only(session, sandboxed).finding.way_out.startswith("set its stripeCustomerId at")


def test_nobody_pays_a_shadow_but_a_test_tenants_own_price_counts(
    session: Session, stripe: FakeStripe, at: datetime
) -> None:
    shadowed = priced(session, connect(session, now=at), is_active=False, is_shadow=True)
    sandboxed = priced(
        session, connect(session, mode="test", now=at), is_active=True, is_shadow=True
    )
    for to in (shadowed, sandboxed):
        use(session, to, 150, customer="globex")
        push_all(session, to, stripe, now=at)
    found = only(session, shadowed)
    assert (found.finding.mode, found.stake.quantity, found.stake.amount) == ("test", 150, None)
    assert only(session, sandboxed).stake.amount == 2500


def test_a_tenant_sees_and_retries_its_own_only(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    use(session, acme, 150)
    stripe.next = [Outcome("rejected", "no", status=400)]
    push_once(session, acme, stripe, now=at)
    other = priced(session, connect(session, now=at))
    assert stuck.everything(session, other.tenant_id) == []
    stream_id = only(session, acme).finding.stream_id
    assert stream_id is not None
    with unit_of_work(session):
        assert not retrying.blocked(session, other.tenant_id, stream_id, now=at)
        assert not retrying.drift(session, other.tenant_id, stream_id)


def test_suspects_of_many_hours_are_one_finding(
    session: Session, acme: Connected, stripe: FakeStripe, at: datetime
) -> None:
    for hours in range(3):
        use(session, acme, 50, NOON - hours * HOUR)
    push_all(session, acme, stripe, now=at)
    with unit_of_work(session):
        session.execute(
            update(Push)
            .where(Push.tenant_id == acme.tenant_id)
            .values(state="suspect", error="a report counts more than it names")
        )
    found = only(session, acme)
    assert (found.finding.cause, found.finding.pushes) == ("suspect", 3)
    assert (found.stake.quantity, found.stake.amount) == (150, 2500)
