"""A subscription's months at the stand-in, read and pushed by the real jobs through the real
library, with nothing of Stripe's own manners switched off."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from metering.catalog.models import BillingPeriod
from tests.jobs.account import Account, opened
from tests.stripe_setup import add_mapping
from tests.support import scalar

BEGINS = datetime(2026, 10, 15, 10, 23, 45, tzinfo=UTC)
ENDS = BEGINS.replace(month=11)
FINAL = ENDS + timedelta(hours=1)
# In Kathmandu (UTC+5:45) that is at 16:08:45.
JUST_BEFORE, AT_ONCE = "16:08:44.999999+05:45", "16:08:45+05:45"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def account(
    session: Session, process_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Account]:
    with opened(session, BEGINS - 20 * MINUTE, monkeypatch) as made:
        add_mapping(session, made.acme)
        yield made


def unix(at: datetime) -> int:
    return int(at.timestamp())


def sums(account: Account) -> dict[datetime, Decimal]:
    """What we have counted, by the start of the period."""
    rows = account.session.execute(
        text("SELECT period_start, sum_value FROM counters WHERE tenant_id = :t"),
        {"t": account.acme.tenant_id},
    ).all()
    account.session.rollback()
    return {row[0].astimezone(UTC): row[1] for row in rows}


def final_lines(account: Account, customer: Any) -> list[int]:
    [invoice] = account.v1.invoices.list({"customer": customer.id}).data
    assert invoice.status == "paid"
    return [line.amount for line in account.v1.invoices.line_items.list(invoice.id).data]


def test_a_month_from_the_15th_at_10_23_45(account: Account) -> None:
    """First usage comes before its subscription is known; the last within the hour of grace."""
    price, customer = account.price(account.meter()), account.customer("aurora")
    account.read()
    account.go_to(BEGINS)
    account.subscribe(customer, price)
    account.go_to(BEGINS + 15 * MINUTE)
    account.use(1, f"2026-10-15T{JUST_BEFORE}")
    account.use(10, f"2026-10-15T{AT_ONCE}")
    account.push()
    hour = BEGINS.replace(minute=0, second=0)
    assert account.held() == {unix(hour): 11}

    account.go_to(account.clock.now + MINUTE)
    account.hear()
    for _ in range(3):
        account.push()
        account.go_to(account.clock.now + MINUTE)
    assert account.held() == {unix(hour): 1, unix(BEGINS): 10}
    assert sums(account) == {BEGINS.replace(day=1, hour=0, minute=0, second=0): 1, BEGINS: 10}

    account.go_to(ENDS - 3 * MINUTE)
    account.use(1000, "2026-11-15T16:05:00+05:45")
    account.push()
    account.go_to(ENDS + 5 * MINUTE)
    account.use(100, f"2026-11-15T{JUST_BEFORE}")
    account.use(5, f"2026-11-15T{AT_ONCE}")
    account.hear()
    account.push()
    assert account.held()[unix(ENDS.replace(minute=0, second=0))] == 1100
    assert account.held()[unix(ENDS)] == 5

    account.go_to(FINAL + MINUTE)
    # 1110 units: up to 1000 for 9.00 flat, 110 more at 3.6 cents.
    assert final_lines(account, customer) == [0, 900, 396, 0]
    assert sums(account)[BEGINS] == 1110
    account.hear()
    account.use(7, f"2026-11-15T{JUST_BEFORE}")
    account.push()
    assert sums(account)[BEGINS] == 1110
    assert sum(account.held().values()) == 1116
    aside = "SELECT reason FROM set_aside WHERE tenant_id = :t"
    assert scalar(account.session, aside, t=account.acme.tenant_id) == "period_closed"
    [period] = [each for each in account.mirrored(BillingPeriod) if each.start_at == BEGINS]
    assert (period.end_at, period.final_at) == (ENDS, FINAL)


def test_an_immediate_cancellation_ends_the_period_and_sends_what_is_left(
    account: Account,
) -> None:
    price, customer = account.price(account.meter()), account.customer("aurora")
    account.go_to(BEGINS)
    subscription = account.subscribe(customer, price)
    account.read()
    account.use(20, BEGINS.isoformat())
    account.push()
    account.go_to(BEGINS + timedelta(days=3))
    account.use(1090, (account.clock.now - 5 * MINUTE).isoformat())
    account.v1.subscriptions.cancel(subscription.id)
    account.hear()
    account.push()
    assert sum(account.held().values()) == 1110
    [period] = account.mirrored(BillingPeriod)
    assert period.end_at == BEGINS + timedelta(days=3)
