"""A period closes once its time is over and everything recorded before that is counted."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from metering import installation
from metering.catalog import metrics
from metering.catalog.models import BillingPeriod, Period
from metering.counters import closing, fold
from metering.database import unit_of_work
from metering.tenancy import tenants
from tests.support import entry, put, scalar

START = datetime(2026, 10, 15, 10, 23, 45, tzinfo=UTC)
END = START.replace(month=11)
CLOSES = END + timedelta(hours=48)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


def add_period(session: Session, tenant: str, customer: str = "cus_1", **changes: Any) -> None:
    values: dict[str, Any] = {
        "customer_ref": customer, "metric": "api_calls", "item_id": "si_1", "mode": "live",
        "start_at": START, "end_at": END, "closes_at": CLOSES,
    }  # fmt: skip
    with unit_of_work(session):
        session.add(BillingPeriod(tenant_id=tenant, **(values | changes)))


def close(session: Session, tenant: str, at: datetime, *, most: int = closing.STRETCH) -> int:
    with unit_of_work(session):
        return closing.close_due(session, tenant, now=at, most=most)


def closed(session: Session, tenant: str) -> dict[str, datetime | None]:
    rows = session.execute(
        text("SELECT customer_ref, closed_at FROM billing_periods WHERE tenant_id = :t"),
        {"t": tenant},
    ).all()
    session.rollback()
    return {row[0]: row[1] for row in rows}


def fold_at(session: Session, tenant: str, at: datetime) -> None:
    with unit_of_work(session):
        fold.fold(session, tenant, now=at)


def test_a_period_closes_a_minute_after_its_time_and_once(session: Session, tenant: str) -> None:
    """A minute: a request that began in time has committed by then, or has been given up."""
    add_period(session, tenant)
    add_period(session, tenant, "cus_2", closes_at=None)
    assert close(session, tenant, CLOSES + MINUTE - SECOND) == 0
    assert close(session, tenant, CLOSES + MINUTE) == 1
    assert close(session, tenant, CLOSES + 2 * MINUTE) == 0
    assert closed(session, tenant) == {"cus_1": CLOSES + MINUTE, "cus_2": None}
    told = "SELECT periods_closed FROM tenant_locks WHERE tenant_id = :t"
    assert scalar(session, told, t=tenant) == 1


def test_what_was_recorded_in_time_is_counted_before_its_period_closes(
    session: Session, tenant: str
) -> None:
    add_period(session, tenant)
    put(session, tenant, [entry("in_time", 1, START)], now=CLOSES - SECOND)
    put(session, tenant, [entry("too_late", 2, START)], now=CLOSES)
    assert close(session, tenant, CLOSES + MINUTE) == 1
    found = session.execute(
        text("SELECT sum_value, (SELECT array_agg(reason) FROM set_aside WHERE tenant_id = :t)"
             " FROM counters WHERE tenant_id = :t"), {"t": tenant},
    ).one()  # fmt: skip
    assert tuple(found) == (1, ["after_closing"])


def test_a_period_waits_for_a_backlog_and_the_others_do_not(
    session: Session, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folds are behind: what is older than the oldest that waits can be closed."""
    add_period(session, tenant)
    add_period(session, tenant, "cus_2", closes_at=CLOSES - timedelta(hours=1))
    waiting = [entry(f"e{n}", 1, START) for n in range(3)]
    put(session, tenant, waiting, now=CLOSES - MINUTE)
    monkeypatch.setattr(closing, "FOLDED_FIRST", 2)
    assert close(session, tenant, CLOSES + MINUTE) == 1
    assert closed(session, tenant) == {"cus_1": None, "cus_2": CLOSES + MINUTE}
    assert close(session, tenant, CLOSES + 2 * MINUTE) == 1
    assert scalar(session, "SELECT sum_value FROM counters WHERE tenant_id = :t", t=tenant) == 3


def test_many_close_stretch_by_stretch_the_oldest_first(session: Session, tenant: str) -> None:
    for number in range(5):
        add_period(session, tenant, f"cus_{number}", closes_at=CLOSES - timedelta(minutes=number))
    at = CLOSES + MINUTE
    assert [close(session, tenant, at, most=2) for _ in range(4)] == [2, 2, 1, 0]


def test_a_calendar_month_closes_only_where_it_is_told_to(session: Session, tenant: str) -> None:
    month = {
        "start_at": datetime(2026, 10, 1, tzinfo=UTC),
        "end_at": datetime(2026, 11, 1, tzinfo=UTC),
    }
    with unit_of_work(session):
        session.add(Period(tenant_id=tenant, schedule="calendar", closes_at=CLOSES, **month))
    with unit_of_work(session):
        assert tenant in installation.tenants_with_closings(session, due_at=CLOSES)
    assert close(session, tenant, CLOSES + MINUTE) == 1


def test_who_has_a_period_to_close_is_found(session: Session, tenant: str, stranger: str) -> None:
    add_period(session, tenant)
    add_period(session, stranger, closes_at=None)
    for at, is_due in ((CLOSES - SECOND, False), (CLOSES, True)):
        with unit_of_work(session):
            found = installation.tenants_with_closings(session, due_at=at)
        assert (tenant in found, stranger in found) == (is_due, False)
    close(session, tenant, CLOSES + MINUTE)
    with unit_of_work(session):
        assert tenant not in installation.tenants_with_closings(session, due_at=CLOSES)


def test_a_closing_is_found_by_its_index(session: Session, tenant: str) -> None:
    """Beside thousands that are closed; a table of a page is read by any index."""
    add_period(session, tenant)
    session.execute(
        text(
            "INSERT INTO billing_periods (tenant_id, customer_ref, metric, start_at, end_at, mode,"
            " item_id, closes_at, closed_at) SELECT :t, 'past_' || i, 'api_calls', :s, :e, 'live',"
            " 'si_1', :c, :c FROM generate_series(1, 3000) i"
        ),
        {"t": tenant, "s": START, "e": END, "c": CLOSES},
    )
    session.execute(text("ANALYZE billing_periods"))
    parameters = {"tenant_id": tenant, "due_at": CLOSES, "now": CLOSES, "most": 10}
    plan = session.connection().exec_driver_sql(f"EXPLAIN {closing._CLOSE}", parameters)
    assert "ix_billing_periods_closing" in "\n".join(plan.scalars())
    session.rollback()


def test_metrics_are_made_with_the_tenants_lateness(session: Session, now: datetime) -> None:
    """Seen first in an event, or made by hand: 48 hours unless the installation says otherwise."""
    tenant = f"t-{uuid.uuid4()}"
    with unit_of_work(session):
        tenants.create(session, tenant, mode="test", now=now, lateness_seconds=7200)
    put(session, tenant, [entry("a", 1, START, metric="seen")], now=now)
    fold_at(session, tenant, now)
    with unit_of_work(session):
        edited = metrics.edit(session, tenant, "made", {"unit": "calls"}, now=now)
        told = metrics.edit(session, tenant, "told", {"lateness_seconds": 60}, now=now)
        seen = metrics.get(session, tenant, "seen")
        late = [each.lateness_seconds for each in (seen, edited, told)]
    assert late == [7200, 7200, 60]


def test_the_installations_lateness_is_told_to_tenants_that_there_are(
    session: Session, tenant: str, now: datetime
) -> None:
    with unit_of_work(session):
        before = tenants.get(session, tenant).lateness_seconds
        installation.set_lateness(session, 3600)
    try:
        put(session, tenant, [entry("a", 1, START)], now=now)
        fold_at(session, tenant, now)
        with unit_of_work(session):
            assert metrics.get(session, tenant, "api_calls").lateness_seconds == 3600
    finally:
        with unit_of_work(session):
            installation.set_lateness(session, before)
    with unit_of_work(session):
        assert metrics.get(session, tenant, "api_calls").lateness_seconds == 3600
