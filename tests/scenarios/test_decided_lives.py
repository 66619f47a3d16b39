"""Lives of usage about which people decide, with Stripe's stand-in attached: what reaches it, and
which invoice bills it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from metering.counters import adjustments, deciding, fold, usage, voids
from metering.counters.adjustments import Filter, Wanted
from metering.database import unit_of_work
from metering.errors import ConflictError
from sandbox.stripe.pipeline import KIND
from tests.jobs.account import Account, opened
from tests.jobs.conftest import process_environment
from tests.stripe_setup import add_mapping
from tests.support import entry, put

__all__ = ["process_environment"]

BEGINS = datetime(2026, 10, 15, 10, 23, 45, tzinfo=UTC)
ENDS, NEXT = BEGINS.replace(month=11), BEGINS.replace(month=12)
FINAL = ENDS + timedelta(hours=1)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
READINGS = ("max", "last", "unique")


@pytest.fixture
def account(
    session: Session, process_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Account]:
    """The first month of a subscription has begun, and we know it."""
    with opened(session, BEGINS - 20 * MINUTE, monkeypatch) as made:
        add_mapping(session, made.acme)
        price, customer = made.price(made.meter()), made.customer("aurora")
        made.go_to(BEGINS)
        made.subscribe(customer, price)
        made.read()
        made.go_to(BEGINS + DAY)
        yield made


def use(account: Account, key: str, quantity: int, at: datetime, resource: str = "r") -> None:
    used = entry(key, quantity, at, customer="aurora", resource=resource)
    put(account.session, account.acme.tenant_id, [used], now=account.clock.now)
    with unit_of_work(account.session) as session:
        fold.fold(session, account.acme.tenant_id, now=account.clock.now)


def push(account: Account) -> None:
    """Until nothing waits for its segment's next turn any more."""
    for _ in range(3):
        account.push()
        account.go_to(account.clock.now + MINUTE)


def decide(account: Account, act: Any, on: str, **how: Any) -> None:
    with unit_of_work(account.session) as session:
        act(session, account.acme.tenant_id, on, actor="me", now=account.clock.now, **how)


def propose(account: Account, delta: int, at: datetime) -> str:
    wanted = Wanted("aurora", "api_calls", Decimal(delta), "credit", at)
    with unit_of_work(account.session) as session:
        return adjustments.create(
            session, account.acme.tenant_id, adjustments.id_of(None), wanted, actor="me",
            now=account.clock.now,
        ).adjustment_id  # fmt: skip


def pending(account: Account) -> str:
    """The one that waits."""
    wanted = Filter(status="pending")
    [one] = adjustments.page(account.session, account.acme.tenant_id, wanted)
    found = one.adjustment_id
    account.session.rollback()
    return found


def sent(account: Account, event_name: str = "api_calls") -> list[Decimal]:
    """Every push that Stripe took, in order."""
    return [
        Decimal(event["value"])
        for event in account.partition.of(KIND).values()
        if event["state"] != "rejected" and event["event_name"] == event_name
    ]


def total(account: Account, start_at: datetime = BEGINS) -> Decimal:
    of = account.acme.tenant_id, "aurora", "api_calls", start_at
    found = usage.total(account.session, *of)
    account.session.rollback()
    return found


def close(account: Account) -> None:
    """As the clock would have closed the first period by now."""
    with unit_of_work(account.session) as session:
        session.execute(
            text(
                "UPDATE billing_periods SET closes_at = :now, closed_at = :now"
                " WHERE tenant_id = :t AND start_at = :at"
            ),
            {"t": account.acme.tenant_id, "at": BEGINS, "now": account.clock.now},
        )


def invoiced(account: Account) -> list[int]:
    """What each invoice that is final bills, the oldest first; minor units."""
    invoices = [each for each in account.v1.invoices.list().data if each.status == "paid"]
    return [
        sum(line.amount for line in account.v1.invoices.line_items.list(each.id).data)
        for each in sorted(invoices, key=lambda each: each.period_end)
    ]


def cost(quantity: int) -> int:
    """By the account's price: $9 for the first 1,000, then 3.6 cents each."""
    return 900 + round(max(0, quantity - 1000) * 3.6)


def test_a_void_is_taken_back_at_stripe_and_a_restored_event_is_put_back(account: Account) -> None:
    use(account, "right", 100, BEGINS)
    use(account, "wrong", 30, BEGINS + HOUR)
    push(account)
    decide(account, voids.void, "wrong", reason="sent twice")
    push(account)
    assert (total(account), sent(account)) == (100, [100, 30, -30])
    decide(account, voids.void, "wrong", reason="again")
    push(account)
    assert sent(account) == [100, 30, -30]
    decide(account, voids.restore, "wrong", reason="it was right")
    push(account)
    assert (total(account), sent(account)) == (130, [100, 30, -30, 30])


def test_max_last_and_unique_reach_stripe_as_differences(account: Account) -> None:
    for reading in READINGS:
        account.meter(reading)
        add_mapping(account.session, account.acme, meter_event_name=reading, aggregation=reading)
    account.read()
    use(account, "small", 10, BEGINS, "a")
    use(account, "large", 50, BEGINS + HOUR, "b")
    use(account, "last", 7, BEGINS + 2 * HOUR, "c")
    push(account)
    assert [sum(sent(account, each)) for each in READINGS] == [50, 7, 3]
    decide(account, voids.void, "large", reason="r")
    decide(account, voids.void, "last", reason="r")
    push(account)
    assert [sum(sent(account, each)) for each in READINGS] == [10, 10, 1]
    known = propose(account, 5, BEGINS)
    decide(account, deciding.approve, known)
    decide(account, voids.restore, "last", reason="r")
    push(account)
    assert [sum(sent(account, each)) for each in READINGS] == [15, 12, 7]
    assert sum(sent(account)) == 22
    decide(account, deciding.revert, known)
    push(account)
    assert [sum(sent(account, each)) for each in READINGS] == [10, 7, 2]


def test_a_credit_reaches_stripe_and_its_revert_takes_it_back_once(account: Account) -> None:
    use(account, "used", 100, BEGINS)
    push(account)
    known = propose(account, -20, BEGINS)
    push(account)
    assert sent(account) == [100]
    decide(account, deciding.approve, known)
    push(account)
    assert (total(account), sent(account)) == (80, [100, -20])
    decide(account, deciding.revert, known)
    for _ in range(2):
        with pytest.raises(ConflictError):
            decide(account, deciding.revert, known)
    push(account)
    assert (total(account), sent(account)) == (100, [100, -20, 20])


def test_late_usage_of_a_closed_period_is_billed_by_its_own_invoice(account: Account) -> None:
    """Closed, but Stripe's draft is not final yet."""
    use(account, "in time", 1500, BEGINS)
    push(account)
    account.go_to(ENDS + 10 * MINUTE)
    close(account)
    use(account, "late", 300, ENDS - HOUR)
    push(account)
    assert sum(sent(account)) == 1500
    decide(account, deciding.approve, pending(account))
    push(account)
    assert (total(account), sum(sent(account))) == (1800, 1800)
    account.go_to(FINAL + HOUR)
    assert invoiced(account) == [cost(1800)]


def test_what_is_carried_forward_is_on_the_next_invoice_and_not_on_the_old_one(
    account: Account,
) -> None:
    use(account, "in time", 1500, BEGINS)
    push(account)
    account.go_to(FINAL + HOUR)
    account.hear()
    close(account)
    use(account, "late", 300, ENDS - HOUR)
    known = pending(account)
    with pytest.raises(ConflictError, match="can bill nothing more"):
        decide(account, deciding.approve, known)
    decide(account, deciding.approve, known, disposition="carry_forward")
    account.go_to(ENDS + 3 * DAY)
    use(account, "of the next", 1000, ENDS + 2 * DAY)
    push(account)
    assert (total(account), total(account, ENDS)) == (1500, 1300)
    account.go_to(NEXT + 2 * HOUR)
    assert invoiced(account) == [cost(1500), cost(1300)]


def test_a_carried_one_is_taken_back_from_where_it_counted_exactly_once(account: Account) -> None:
    use(account, "in time", 1500, BEGINS)
    push(account)
    account.go_to(FINAL + HOUR)
    account.hear()
    close(account)
    use(account, "late", 300, ENDS - HOUR)
    known = pending(account)
    decide(account, deciding.approve, known, disposition="carry_forward")
    push(account)
    assert sum(sent(account)) == 1800
    account.go_to(ENDS + 9 * DAY)
    decide(account, deciding.revert, known)
    with pytest.raises(ConflictError):
        decide(account, deciding.revert, known)
    use(account, "of the next", 1000, ENDS + 2 * DAY)
    push(account)
    assert sum(sent(account)) == 2500
    account.go_to(NEXT + 2 * HOUR)
    assert invoiced(account) == [cost(1500), cost(1000)]


@pytest.mark.parametrize("disposition", ["invoice_item", "credit_note", "write_off"])
def test_what_is_settled_outside_never_reaches_stripe(account: Account, disposition: str) -> None:
    use(account, "used", 100, BEGINS)
    push(account)
    known = propose(account, 50, BEGINS)
    decide(account, deciding.approve, known, disposition=disposition)
    push(account)
    decide(account, deciding.revert, known)
    push(account)
    assert (total(account), sent(account)) == (100, [100])
