"""What a customer used last: against the ledger read through, and within bounds."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from metering.catalog import metrics
from metering.catalog.models import BillingPeriod
from metering.counters import recent, voids
from metering.counters.recent import Recent
from metering.database import unit_of_work
from tests.support import entry, fold_all, put

NOW = datetime(2026, 11, 10, 12, 30, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def found(
    session: Session,
    tenant: str,
    only: list[str] | None = None,
    *,
    ref: str = "cus_1",
    most: int = 10,
) -> list[Recent]:
    listed = recent.of_customer(session, tenant, ref, only, now=NOW, most=most)
    session.rollback()
    instants = [event.occurred_at for event in listed]
    assert instants == sorted(instants, reverse=True)
    return listed


def quantities(events: list[Recent]) -> list[int]:
    return [int(event.quantity) for event in events]


def used(session: Session, tenant: str, *events: tuple[int, datetime], **of: str) -> None:
    """Events by quantity and instant, each recorded a second after it occurred."""
    for quantity, at in sorted(events, key=lambda event: event[1]):
        key = f"{of}/{quantity}/{at}"
        put(session, tenant, [entry(key, quantity, at, **of)], now=at + timedelta(seconds=1))


@pytest.mark.parametrize("seed", range(4))
def test_the_latest_are_those_that_the_whole_ledger_has(
    session: Session, tenant: str, seed: int
) -> None:
    """Bursts and silence, of two metrics and two customers; some of it not counted yet."""
    random = Random(seed)
    entries: dict[datetime, list[tuple[str, str, int, datetime]]] = {}
    for n in range(1, 160):
        at = NOW - random.choice([MINUTE, HOUR, 9 * HOUR]) * random.randrange(1, 20)
        at -= timedelta(seconds=n)
        recorded = at + random.choice([timedelta(seconds=2), 40 * MINUTE])
        whose = random.choice(["cus_1", "cus_1", "cus_2"])
        entries.setdefault(min(recorded, NOW), []).append((whose, random.choice("ab"), n, at))
    batches = sorted(entries.items())
    for i, (recorded, events) in enumerate(batches):
        rows = [entry(f"{n}", n, at, customer=ref, metric=m) for ref, m, n, at in events]
        put(session, tenant, rows, now=recorded)
        if i == len(batches) * 2 // 3:
            fold_all(session, tenant)
    for only in (None, ["a"], ["b", "c"]):
        for most in (1, 10, 25):
            expected = session.execute(
                text(
                    "SELECT metric, quantity, occurred_at, recorded_at FROM events"
                    " WHERE tenant_id = :t AND customer_ref = 'cus_1'"
                    " AND (CAST(:m AS text[]) IS NULL OR metric = ANY(CAST(:m AS text[])))"
                    " ORDER BY occurred_at DESC, idempotency_key DESC LIMIT :most"
                ),
                {"t": tenant, "m": only, "most": most},
            ).all()
            listed = found(session, tenant, only, most=most)
            assert [(e.metric, e.quantity, e.occurred_at, e.recorded_at) for e in listed] == [
                tuple(row) for row in expected
            ]


def test_an_event_says_how_it_stands_and_how_it_is_called(session: Session, tenant: str) -> None:
    with unit_of_work(session):
        changes = {"late_policy": "age", "lateness_seconds": 3600, "display_name": "Calls"}
        metrics.edit(session, tenant, "api_calls", changes | {"unit": "call"}, now=NOW)
    put(session, tenant, [entry("late", 2, NOW - 2 * HOUR)], now=NOW)
    put(session, tenant, [entry("counted", "1.5", NOW, meta='{"secret": 1}')], now=NOW)
    fold_all(session, tenant)
    put(session, tenant, [entry("waiting", 3, NOW - HOUR, metric="new")], now=NOW)
    counted, waiting, late = found(session, tenant)
    assert counted == Recent("api_calls", "Calls", "call", Decimal("1.5"), NOW, NOW, "counted")
    assert waiting == Recent("new", None, None, Decimal(3), NOW - HOUR, NOW, "unfolded")
    assert (late.status, late.display_name) == ("set_aside", "Calls")
    assert quantities(found(session, tenant, ["new"])) == [3]
    assert found(session, tenant, []) == []


def test_neither_another_customers_events_nor_another_tenants_are_shown(
    session: Session, tenant: str, stranger: str
) -> None:
    used(session, tenant, (1, NOW))
    used(session, tenant, (2, NOW), customer="cus_2")
    used(session, stranger, (4, NOW))
    for is_counted in (False, True):
        if is_counted:
            fold_all(session, tenant)
            fold_all(session, stranger)
        assert quantities(found(session, tenant)) == [1]
        assert quantities(found(session, stranger)) == [4]
        assert found(session, tenant, ref="nobody") == []


def test_what_is_long_past_is_not_recent(session: Session, tenant: str) -> None:
    used(session, tenant, (1, NOW - recent.REACH - HOUR), (2, NOW - recent.REACH + HOUR))
    assert quantities(found(session, tenant)) == [2]
    fold_all(session, tenant)
    assert quantities(found(session, tenant)) == [2]


def test_an_hour_that_a_period_cuts_is_two(session: Session, tenant: str) -> None:
    cut = datetime(2026, 11, 10, 11, 23, 45, tzinfo=UTC)
    with unit_of_work(session):
        session.add(
            BillingPeriod(
                tenant_id=tenant, customer_ref="cus_1", metric="api_calls", item_id="si_1",
                mode="test", start_at=cut, end_at=cut + timedelta(days=30),
            )
        )  # fmt: skip
    used(session, tenant, *((n + 3, cut + n * MINUTE) for n in range(-3, 4) if n))
    fold_all(session, tenant)
    assert len(found(session, tenant)) == 6
    assert [event.occurred_at for event in found(session, tenant)] == [
        cut + n * MINUTE for n in (3, 2, 1, -1, -2, -3)
    ]


def test_the_list_ends_where_something_was_not_found(
    session: Session, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a customer's event an hour ago others' usage hides those before: nothing older is shown,
    for it would look as if nothing lay between."""
    monkeypatch.setattr(recent, "BEFORE", 20)
    used(session, tenant, *((n, NOW - 5 * HOUR - n * MINUTE) for n in (1, 2)))
    used(session, tenant, (3, NOW - HOUR - 9 * MINUTE), (4, NOW - HOUR - 8 * MINUTE))
    theirs = [(n, NOW - HOUR - 5 * MINUTE + timedelta(seconds=n)) for n in range(30)]
    used(session, tenant, *theirs, customer="cus_2")
    used(session, tenant, (5, NOW - HOUR - MINUTE), (6, NOW - HOUR))
    fold_all(session, tenant)
    assert quantities(found(session, tenant)) == [6, 5]
    monkeypatch.setattr(recent, "BEFORE", 100)
    assert quantities(found(session, tenant)) == [6, 5, 4, 3, 1, 2]


def test_a_voided_event_is_shown_as_taken_out_and_hides_nothing(
    session: Session, tenant: str
) -> None:
    """The hour holds it still, so that all of the hour is found; an approved late one is none of
    the hour's, and does not stand for one that was not found."""
    used(session, tenant, *((n, NOW - HOUR - n * MINUTE) for n in (1, 2, 3)), (4, NOW - 3 * HOUR))
    fold_all(session, tenant)
    key = f"{{}}/2/{NOW - HOUR - 2 * MINUTE}"
    with unit_of_work(session):
        voids.void(session, tenant, key, reason="twice", actor="me", now=NOW)
    listed = found(session, tenant)
    assert quantities(listed) == [1, 2, 3, 4]
    assert [event.status for event in listed] == ["counted", "voided", "counted", "counted"]


def test_a_late_report_does_not_hide_what_came_before(session: Session, tenant: str) -> None:
    """The hour's last event came first, and the others after it."""
    for n, minute in enumerate((20, 10, 5)):
        put(
            session,
            tenant,
            [entry(f"{n}", n + 1, NOW.replace(hour=9, minute=minute))],
            now=NOW + n * HOUR,
        )
    fold_all(session, tenant)
    assert quantities(found(session, tenant)) == [1, 2, 3]


def test_the_transaction_goes_on_planning_as_usual(session: Session, tenant: str) -> None:
    recent.of_customer(session, tenant, "cus_1", None, now=NOW)
    for name in ("enable_sort", "enable_bitmapscan"):
        assert session.scalars(text(f"SHOW {name}")).one() == "on"


def test_however_busy_the_tenant_only_so_much_is_read(session: Session, tenant: str) -> None:
    """300,000 events of others in the hour of the customer's ten: counted in rows, not seconds."""
    with unit_of_work(session):
        # What the planner was told last is of thousands of tenants, and not of this one: it takes
        # it for one of a few events, of which any index will do.
        session.execute(
            text(
                "INSERT INTO events (tenant_id, idempotency_key, metric, customer_ref, quantity,"
                " occurred_at, recorded_at)"
                " SELECT 'small-' || n, 'k' || n, 'm', 'c', 1, :now, :now"
                " FROM generate_series(1, 20000) AS n"
            ),
            {"now": NOW},
        )
        session.execute(text("ANALYZE events"))
    mine = [(n, NOW - 50 * MINUTE + n * MINUTE) for n in range(1, 11)]
    used(session, tenant, *mine)
    fold_all(session, tenant)
    with unit_of_work(session):
        session.execute(
            text(
                "INSERT INTO events (tenant_id, idempotency_key, metric, customer_ref, quantity,"
                " occurred_at, recorded_at)"
                " SELECT :t, 'theirs/' || n, 'api_calls', 'cus_2', 1, at, at"
                " FROM generate_series(1, 300000) AS n,"
                " LATERAL (SELECT :now - n * interval '0.01 s' AS at) AS when_"
            ),
            {"t": tenant, "now": NOW},
        )
    listed = found(session, tenant)
    assert quantities(listed) == [10, 9, 8, 7, 6]
    parameters = {
        "tenant_id": tenant, "customer_ref": "cus_1", "metrics": None, "since": NOW - recent.REACH,
        "most": 10, "before": recent.BEFORE, "after": recent.AFTER, "waiting": 200, "aside": 200,
    }  # fmt: skip
    connection = session.connection()
    connection.exec_driver_sql(recent._PLAN.format("'off'"))
    explain = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {recent._RECENT}"
    [plan] = connection.exec_driver_sql(explain, parameters).scalar_one()
    session.rollback()
    assert _rows_read(plan["Plan"]) < recent.BEFORE + recent.AFTER + 2_000


def _rows_read(node: dict[str, Any]) -> int:
    """From tables and indexes, those thrown away among them."""
    below = sum(_rows_read(child) for child in node.get("Plans", ()))
    if "Relation Name" not in node:
        return below
    rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
    return below + round(rows * node["Actual Loops"])
