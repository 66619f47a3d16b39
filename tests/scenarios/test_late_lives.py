"""Lives of usage that comes late, with Stripe's stand-in attached and the real jobs at work."""

import pydoc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from jobs import closing
from jobs.runtime import hints
from metering.catalog import metrics
from metering.catalog.models import BillingPeriod
from metering.counters import deciding, fold, usage
from metering.counters.models import Adjustment
from metering.database import unit_of_work
from metering.errors import ConflictError
from sandbox.stripe.pipeline import KIND
from tests.jobs.account import Account, opened
from tests.jobs.conftest import process_environment
from tests.stripe_setup import add_mapping
from tests.support import entry, put, scalar
from webapp import queues

__all__ = ["process_environment"]

BEGINS = datetime(2026, 10, 15, 10, 23, 45, tzinfo=UTC)
ENDS = BEGINS.replace(month=11)
FINAL = ENDS + timedelta(hours=1)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def account(
    session: Session, process_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Account]:
    """A month of a subscription has begun, and we know it. Jobs run here, as while Redis is
    away."""
    with opened(session, BEGINS - 20 * MINUTE, monkeypatch) as made:
        monkeypatch.setattr(hints(), "close_periods", lambda tenant_id: False)
        add_mapping(session, made.acme)
        price, customer = made.price(made.meter()), made.customer("aurora")
        made.go_to(BEGINS)
        made.subscribe(customer, price)
        made.read()
        yield made


def close(account: Account) -> None:
    """The clock's look. Those of other tests' tenants have nothing that is due."""
    closing.close(account.acme.tenant_id)


def counted(account: Account, at: datetime = BEGINS) -> Decimal | None:
    sql = "SELECT sum_value FROM counters WHERE tenant_id = :t AND period_start = :p"
    found: Decimal | None = scalar(account.session, sql, t=account.acme.tenant_id, p=at)
    return found


def aside(account: Account) -> list[tuple[str, str]]:
    rows = account.session.execute(
        text("SELECT idempotency_key, reason FROM set_aside WHERE tenant_id = :t ORDER BY 1"),
        {"t": account.acme.tenant_id},
    ).all()
    account.session.rollback()
    return [(row[0], row[1]) for row in rows]


def proposals(account: Account) -> list[Adjustment]:
    account.session.rollback()
    return list(
        account.session.scalars(
            select(Adjustment)
            .where(Adjustment.tenant_id == account.acme.tenant_id, Adjustment.origin == "unbilled")
            .execution_options(populate_existing=True)
        )
    )


def period(account: Account) -> Any:
    [first] = [each for each in account.mirrored(BillingPeriod) if each.start_at == BEGINS]
    return first


def record(account: Account, key: str, quantity: int, at: datetime) -> None:
    """It is in the ledger, and not counted yet."""
    used = entry(key, quantity, at, customer="aurora")
    put(account.session, account.acme.tenant_id, [used], now=account.clock.now)


def count(account: Account) -> None:
    with unit_of_work(account.session):
        fold.fold(account.session, account.acme.tenant_id, now=account.clock.now)


def held(account: Account, event_name: str) -> Decimal:
    """What Stripe has accepted of a meter."""
    return sum(
        (
            Decimal(event["value"])
            for event in account.partition.of(KIND).values()
            if event["state"] != "rejected" and event["event_name"] == event_name
        ),
        Decimal(0),
    )


def test_what_comes_out_of_order_is_at_stripe_as_it_was_used(account: Account) -> None:
    """Day 1: 100, day 10: 1, an hour later 1: the sum is 102, the max 100 and the last 1. Then 7
    of the ninth day come: only the sum grows."""
    for reading in ("max", "last"):
        account.meter(reading)
        add_mapping(account.session, account.acme, meter_event_name=reading, aggregation=reading)
    account.read()
    for late, quantity in ((0 * DAY, 100), (9 * DAY, 1), (9 * DAY + HOUR, 1)):
        account.go_to(BEGINS + late + MINUTE)
        account.use(quantity, (BEGINS + late).isoformat())
        push(account)
    assert counted(account) == 102
    assert [held(account, each) for each in ("api_calls", "max", "last")] == [102, 100, 1]
    account.use(7, (BEGINS + 8 * DAY).isoformat())
    push(account)
    assert [held(account, each) for each in ("api_calls", "max", "last")] == [109, 100, 1]


def push(account: Account) -> None:
    """Until nothing waits for its segment's next turn any more."""
    for _ in range(3):
        account.push()
        account.go_to(account.clock.now + MINUTE)


def test_recorded_in_time_counts_twenty_hours_or_twenty_days_late(account: Account) -> None:
    """And what is recorded later is set aside once, whether it is counted before the period has
    closed or after it."""
    with unit_of_work(account.session) as session:
        month = {"lateness_seconds": int((30 * DAY).total_seconds())}
        metrics.edit(session, account.acme.tenant_id, "api_calls", month, now=BEGINS)
        session.execute(
            text("UPDATE billing_periods SET closes_at = end_at + '30 d' WHERE tenant_id = :t"),
            {"t": account.acme.tenant_id},
        )
    closes_at = ENDS + 30 * DAY
    for late, quantity in ((-DAY, 1), (20 * HOUR, 10), (20 * DAY, 100)):
        account.go_to(ENDS + late)
        account.use(quantity, (ENDS - 2 * HOUR).isoformat())
        close(account)
    account.go_to(closes_at - timedelta(seconds=1))
    record(account, "just_in_time", 1000, ENDS - HOUR)
    account.go_to(closes_at)
    record(account, "too_late", 7, ENDS - HOUR)
    close(account)
    assert period(account).closed_at is None, "a request of the last second may still commit"
    count(account)
    assert (counted(account), aside(account)) == (1111, [("too_late", "after_closing")])
    account.go_to(closes_at + MINUTE)
    close(account)
    assert period(account).closed_at == closes_at + MINUTE
    record(account, "much_too_late", 7, ENDS - HOUR)
    for _ in range(2):
        count(account)
    assert (counted(account), aside(account)) == (
        1111,
        [("much_too_late", "period_closed"), ("too_late", "after_closing")],
    )


def test_a_period_closes_a_quarter_before_its_invoice_is_final(account: Account) -> None:
    """Heard of the draft: what is recorded in time is counted, sent, and on the invoice."""
    account.go_to(ENDS + 5 * MINUTE)
    account.hear()
    account.use(100, (ENDS - HOUR).isoformat())
    account.push()
    account.go_to(FINAL - 14 * MINUTE)
    close(account)
    found = period(account)
    assert (found.closes_at, found.closed_at) == (FINAL - 15 * MINUTE, FINAL - 14 * MINUTE)
    account.use(7, (ENDS - HOUR).isoformat())
    account.go_to(FINAL + MINUTE)
    account.hear()
    account.push()
    closing.propose(account.acme.tenant_id)
    assert counted(account) == 100
    assert sum(account.held().values()) == 100
    assert proposals(account) == []


def test_what_stripe_took_before_we_heard_that_it_was_final(account: Account) -> None:
    """Its events did not reach us. From the moment they do, nothing of the period changes, and
    what no invoice bills is a decision."""
    account.use(100, BEGINS.isoformat())
    account.push()
    account.go_to(FINAL + 2 * HOUR)
    account.use(7, (ENDS - HOUR).isoformat())
    account.push()
    [invoice] = account.v1.invoices.list().data
    assert invoice.status in ("open", "paid")
    assert sum(account.held().values()) == 107
    account.go_to(FINAL + 3 * HOUR)
    account.hear()
    found = period(account)
    assert (found.final_at, found.closed_at) == (FINAL, FINAL + 3 * HOUR)
    [made] = proposals(account)
    assert (made.customer_ref, made.period_start, made.delta) == ("aurora", BEGINS, 7)
    assert made.note is not None
    assert invoice.id in made.note
    # What commits later is set aside; nothing is proposed or sent twice.
    account.use(1, (ENDS - HOUR).isoformat())
    account.go_to(FINAL + 4 * HOUR)
    account.hear()
    account.push()
    closing.propose(account.acme.tenant_id)
    assert counted(account) == 107
    assert [reason for _, reason in aside(account)] == ["period_closed"]
    assert sum(account.held().values()) == 107
    assert [each.delta for each in proposals(account)] == [7]


def test_what_no_invoice_billed_is_carried_into_the_next(account: Account) -> None:
    """Approved, it counts in the period that is open now, and Stripe is told of it there; in its
    own period it would be counted twice. Reverted, it is taken back."""
    account.go_to(FINAL + 2 * HOUR)
    account.use(7, (ENDS - HOUR).isoformat())
    account.push()
    account.hear()
    [made] = proposals(account)
    tenant_id, name = account.acme.tenant_id, made.adjustment_id

    def decide(what: Any, **choice: str) -> None:
        with unit_of_work(account.session) as session:
            what(session, tenant_id, name, actor="finance", now=account.clock.now, **choice)
        push(account)
        closing.propose(tenant_id)

    with pytest.raises(ConflictError):
        decide(deciding.approve, disposition="apply")
    decide(deciding.approve, disposition="carry_forward")
    with unit_of_work(account.session) as session:
        now = usage.of_customer(session, tenant_id, "aurora", None, now=account.clock.now)
    assert [(each.span.start_at, each.value) for each in now.metrics] == [(ENDS, 7)]
    assert counted(account) == 7
    assert sum(account.held().values()) == 14
    decide(deciding.revert)
    assert sum(account.held().values()) == 7
    assert [each.status for each in proposals(account)] == ["reverted"]


def test_what_cannot_be_sent_any_more_is_a_decision(account: Account) -> None:
    """Of a final invoice, and older than 35 days: neither is sent."""
    account.use(100, BEGINS.isoformat())
    account.push()
    account.go_to(FINAL + 2 * HOUR)
    record(account, "never_sent", 7, ENDS - HOUR)
    account.hear()
    account.go_to(FINAL + 3 * HOUR)
    account.push()
    # Before its subscription it is billed by the month, which closes never.
    account.go_to(BEGINS + 40 * DAY)
    account.use(3, (BEGINS - HOUR).isoformat())
    account.push()
    closing.propose(account.acme.tenant_id)
    assert sum(account.held().values()) == 100
    found = {each.period_start.astimezone(UTC): each for each in proposals(account)}
    assert {start: each.delta for start, each in found.items()} == {
        BEGINS: 7,
        datetime(2026, 10, 1, tzinfo=UTC): 3,
    }
    notes = [each.note or "" for _, each in sorted(found.items())]
    assert "35 days" in notes[0]
    assert "invoice is final" in notes[1]


def test_the_clock_finds_what_is_to_be_closed(account: Account) -> None:
    closes_at = period(account).closes_at
    account.go_to(closes_at + MINUTE)
    closing.look()
    assert period(account).closed_at == closes_at + MINUTE
    assert pydoc.locate(queues.CLOSE_JOB) is closing.close
