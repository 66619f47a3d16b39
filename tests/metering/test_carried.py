"""What is carried forward bills each late event once, whatever else is decided of its period."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy.orm import Session

from metering.billing import at_stake
from metering.catalog import mappings, metrics
from metering.catalog.schedules import PlannedPeriod
from metering.counters import adjustments, deciding, periods, usage, voids
from metering.counters.adjustments import Filter
from metering.database import unit_of_work
from metering.errors import ConflictError
from metering.ledger import append
from tests.support import entry, fold_all, put

METRIC, NOW = "api_calls", datetime(2026, 12, 20, 12, 30, tzinfo=UTC)
OCTOBER, NOVEMBER, DECEMBER = (datetime(2026, month, 1, tzinfo=UTC) for month in (10, 11, 12))
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


class Books:
    """A customer's metric, whose events are set aside a day after they were."""

    def __init__(self, session: Session, tenant: str, aggregation: str, **changes: Any) -> None:
        self.session, self.tenant = session, tenant
        told = {"aggregation": aggregation, "late_policy": "age", "lateness_seconds": 86_400}
        with unit_of_work(session):
            metrics.edit(session, tenant, METRIC, told | changes, now=OCTOBER)

    def use(self, key: str, quantity: int, at: datetime, arrived: datetime | None = None) -> None:
        used = entry(key, quantity, at, resource=key)
        put(self.session, self.tenant, [used], now=arrived or at)
        fold_all(self.session, self.tenant)

    def waiting(self) -> list[str]:
        found = adjustments.page(
            self.session, self.tenant, Filter(status="pending", oldest_first=True)
        )
        ids = [one.adjustment_id for one in sorted(found, key=lambda one: str(one.arrived_on))]
        self.session.rollback()
        return ids

    def carry(self, known: str, now: datetime = NOW) -> None:
        self.decide(deciding.approve, known, now, disposition="carry_forward")

    def decide(self, act: Any, on: str, now: datetime = NOW, **how: Any) -> None:
        with unit_of_work(self.session):
            act(self.session, self.tenant, on, actor="me", now=now, **how)

    def totals(self) -> tuple[Decimal, ...]:
        """Of November and of December."""
        found = tuple(
            usage.total(self.session, self.tenant, "cus_1", METRIC, start)
            for start in (NOVEMBER, DECEMBER)
        )
        self.session.rollback()
        return found


@pytest.mark.parametrize(
    ("aggregation", "counted", "worth"),
    [("sum", 100, 50), ("count", 1, 1), ("max", 100, 50), ("last", 100, 50), ("unique", 1, 1)],
)
def test_a_void_event_counts_nowhere_though_it_was_carried(
    session: Session, tenant: str, aggregation: str, counted: int, worth: int
) -> None:
    books = Books(session, tenant, aggregation, unique_enabled=True)
    books.use("in time", 100, NOVEMBER + 3 * DAY)
    books.use("late", 150 if aggregation in ("max", "last") else 50, NOVEMBER + 4 * DAY, NOW)
    [known] = books.waiting()
    books.carry(known)
    assert books.totals() == (counted, worth)
    books.decide(voids.void, "late", reason="sent twice")
    assert books.totals() == (counted, 0)
    books.decide(voids.restore, "late", reason="it was right")
    assert books.totals() == (counted, worth)
    steps = adjustments.steps(session, tenant, known)
    assert [step.action for step in steps] == [
        "propose", "approve: carry_forward", "change", "change",
    ]  # fmt: skip


def test_two_late_events_raise_a_maximum_once(session: Session, tenant: str) -> None:
    books = Books(session, tenant, "max")
    books.use("in time", 100, NOVEMBER + 3 * DAY)
    books.use("one", 150, NOVEMBER + 4 * DAY, NOW - 3 * DAY)
    books.use("other", 160, NOVEMBER + 5 * DAY, NOW)
    one, other = books.waiting()
    books.carry(one)
    [shown] = [
        at_stake.of(session, tenant, each, now=NOW).carried.effect.difference
        for each in adjustments.page(session, tenant, Filter(status="pending"))
    ]
    session.rollback()
    assert shown == 10
    books.carry(other, NOW + HOUR)
    assert books.totals() == (100, 60)
    books.decide(deciding.revert, one, NOW + 2 * HOUR)
    assert books.totals() == (100, 60)
    books.decide(deciding.revert, other, NOW + 2 * HOUR)
    assert books.totals() == (100, 0)


@pytest.mark.parametrize("disposition", ["apply", "invoice_item"])
def test_what_is_billed_otherwise_is_not_carried_too(
    session: Session, tenant: str, disposition: str
) -> None:
    books = Books(session, tenant, "max")
    books.use("in time", 100, NOVEMBER + 3 * DAY)
    books.use("one", 150, NOVEMBER + 4 * DAY, NOW - 3 * DAY)
    books.use("other", 150, NOVEMBER + 5 * DAY, NOW)
    one, other = books.waiting()
    books.decide(deciding.approve, one, disposition=disposition)
    books.carry(other, NOW + HOUR)
    assert books.totals()[1] == 0
    books.decide(deciding.revert, one)
    assert books.totals() == (100, 50)
    books.decide(deciding.approve, one, disposition="apply")
    assert books.totals() == (150, 0)


def test_events_of_the_current_period_are_applied_and_not_carried(
    session: Session, tenant: str
) -> None:
    """Later usage would come on top of what it is a part of."""
    books = Books(session, tenant, "max")
    books.use("in time", 100, DECEMBER + 18 * DAY)
    books.use("late", 150, DECEMBER + 4 * DAY, NOW)
    [known] = books.waiting()
    with pytest.raises(ConflictError, match="apply it there"):
        books.carry(known)
    books.decide(deciding.approve, known)
    books.use("more", 200, NOW - HOUR)
    assert books.totals()[1] == 200


def test_what_settles_an_earlier_period_does_not_raise_a_gauge_for_ever(
    session: Session, tenant: str
) -> None:
    books = Books(session, tenant, "last", carry_over=True)
    books.use("october", 5, OCTOBER + 3 * DAY)
    books.use("november", 5, NOVEMBER + 9 * DAY)
    books.use("late", 8, OCTOBER + 4 * DAY, NOVEMBER + 10 * DAY)
    [known] = books.waiting()
    books.carry(known, NOVEMBER + 10 * DAY)
    assert books.totals() == (8, 5)
    [metric] = usage.of_customer(session, tenant, "cus_1", None, now=NOW).metrics
    assert (metric.is_carried, metric.value) == (True, 5)


def test_a_gauge_is_worth_what_it_stood_above_the_level_that_was_carried_over(
    session: Session, tenant: str
) -> None:
    """The level of October was billed in November, of which nobody had reported anything."""
    books = Books(session, tenant, "last", carry_over=True)
    books.use("october", 5, OCTOBER + 3 * DAY)
    books.use("late", 8, NOVEMBER + 4 * DAY, NOW)
    [known] = books.waiting()
    assert books.totals() == (5, 5)
    books.use("december", 8, NOW - HOUR)
    books.carry(known)
    assert books.totals() == (5, 11)


def test_what_is_carried_follows_when_its_period_is_drawn_anew(
    session: Session, tenant: str
) -> None:
    books = Books(session, tenant, "max")
    books.use("in time", 100, NOVEMBER + 3 * DAY)
    books.use("late", 150, NOVEMBER + 20 * DAY, NOW)
    books.use("late too", 120, NOVEMBER + 4 * DAY, NOW)
    [known] = books.waiting()
    books.carry(known)
    assert books.totals() == (100, 50)
    edge = NOVEMBER + 14 * DAY
    wanted = [
        PlannedPeriod(NOVEMBER, edge, "si_1", "test"),
        PlannedPeriod(edge, DECEMBER, "si_1", "test"),
    ]
    with unit_of_work(session):
        periods.replan(session, tenant, "cus_1", METRIC, wanted, now=NOW)
    # 20 above the first half's maximum; of the second half it is all that there is.
    assert books.totals() == (100, 170)


def test_what_is_counted_later_in_its_own_period_is_not_billed_twice(
    session: Session, tenant: str
) -> None:
    """A period that is still open, though it is not the current one."""
    books = Books(session, tenant, "max")
    books.use("in time", 100, NOVEMBER + 3 * DAY)
    books.use("late", 150, NOVEMBER + 4 * DAY, NOW)
    [known] = books.waiting()
    books.carry(known)
    for key, quantity, totals in (("less", 130, (130, 20)), ("more", 200, (200, 0))):
        with unit_of_work(session):
            past = [entry(key, quantity, NOVEMBER + 5 * DAY)]
            append.append(session, tenant, past, now=NOW, late="count")
        fold_all(session, tenant)
        assert books.totals() == totals


def test_what_is_billed_otherwise_is_not_carried_as_one_number(
    session: Session, tenant: str
) -> None:
    """50 late units below the maximum are 50 of a sum, and nothing of the maximum on the bill."""
    books = Books(session, tenant, "sum")
    books.use("most", 100, NOVEMBER + DAY)
    books.use("late", 50, NOVEMBER + 2 * DAY, arrived=NOVEMBER + 9 * DAY)
    with unit_of_work(session):
        wanted = {"metric": METRIC, "aggregation": "max", "effective_from": OCTOBER}
        mappings.create(session, tenant, mappings.id_of(None), wanted, now=OCTOBER)
    [late] = books.waiting()
    with pytest.raises(ConflictError, match="read by sum and billed by max"):
        books.carry(late)
    assert books.totals() == (100, 0)
    books.decide(deciding.approve, late, disposition="invoice_item")


def test_what_the_current_total_has_already_is_not_carried_into_it(
    session: Session, tenant: str
) -> None:
    books = Books(session, tenant, "sum")
    books.use("sent", 100, DECEMBER + DAY)
    with unit_of_work(session):
        wanted = adjustments.Wanted("cus_1", METRIC, Decimal(30), "late", instant=DECEMBER)
        made = adjustments.create(session, tenant, "adj_x", wanted, actor="me", now=NOW)
        made.origin = "unbilled"
    with pytest.raises(ConflictError, match="the total has it already"):
        books.carry("adj_x")
    assert books.totals() == (0, 100)
