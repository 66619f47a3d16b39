"""Counters are the ledger folded, whatever the order, the size and the crashes of the folds."""

import random
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from metering.catalog import metrics
from metering.counters import closing, fold
from metering.database import make_engine, unit_of_work
from metering.ledger import append
from metering.tenancy import locks, tenants
from tests.support import computed, counters, entry, fold_all, migrate, put, scalar

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
CUSTOMER_MONTH = ("cus_1", "api_calls", NOVEMBER)

BALANCE = """
SELECT (SELECT count(*) FROM events WHERE tenant_id = :t)
     - (SELECT coalesce(sum(event_count), 0) FROM counters WHERE tenant_id = :t)
     - (SELECT count(*) FROM set_aside WHERE tenant_id = :t)
     - (SELECT count(*) FROM dead_letters WHERE tenant_id = :t)
     - (SELECT count(*) FROM unfolded WHERE tenant_id = :t)
"""


def test_late_and_old_usage_counts_in_its_own_period(session: Session, tenant: str) -> None:
    """Day 1: 100, day 10: 1, an hour later 1: the sum is 102 and the max 100."""
    for key, quantity, ts in (
        ("a", 100, "2026-11-01T00:00:00Z"),
        ("b", 1, "2026-11-10T12:00:00Z"),
        ("c", 1, "2026-11-10T13:00:00Z"),
    ):
        put(session, tenant, [entry(key, quantity, ts)])
        fold_all(session, tenant)
    assert counters(session, tenant) == {CUSTOMER_MONTH: (102, 3, 100, 1, 0)}


def test_ten_events_in_order_over_eighteen_days_count_ten(session: Session, tenant: str) -> None:
    for i in range(10):
        put(session, tenant, [entry(f"e{i}", 1, NOVEMBER + timedelta(days=2 * i))])
        fold_all(session, tenant)
    assert counters(session, tenant)[CUSTOMER_MONTH][:2] == (10, 10)
    reaggregated = "SELECT reaggregations FROM counters WHERE tenant_id = :t"
    assert scalar(session, reaggregated, t=tenant) == 0


def test_last_follows_event_time_and_then_the_key(session: Session, tenant: str) -> None:
    at = "2026-11-10T12:00:00Z"
    put(session, tenant, [entry("b", 2, at)])
    fold_all(session, tenant)
    put(session, tenant, [entry("c", 3, "2026-11-10T11:59:59.999999Z"), entry("a", 1, at)])
    fold_all(session, tenant)
    assert counters(session, tenant)[CUSTOMER_MONTH][3] == 2
    put(session, tenant, [entry("z", 9, at)])
    fold_all(session, tenant)
    assert counters(session, tenant)[CUSTOMER_MONTH][3] == 9


def test_an_event_behind_the_watermark_is_counted_and_shown_as_reaggregation(
    session: Session, tenant: str
) -> None:
    put(session, tenant, [entry("a", 1, "2026-11-20T00:00:00Z")])
    fold_all(session, tenant)
    put(session, tenant, [entry("b", 1, "2026-11-02T00:00:00Z")])
    fold_all(session, tenant)
    row = session.execute(
        text("SELECT sum_value, reaggregations, watermark FROM counters WHERE tenant_id = :t"),
        {"t": tenant},
    ).one()
    assert (row[0], row[1], row[2]) == (2, 1, datetime(2026, 11, 20, tzinfo=UTC))


def test_a_month_ends_at_its_last_microsecond(session: Session, tenant: str) -> None:
    put(
        session,
        tenant,
        [
            entry("a", 1, "2026-11-30T23:59:59.999999Z"),
            entry("b", 2, "2026-12-01T00:00:00Z"),
            entry("c", 4, "2026-12-01T01:30:00+02:00"),
        ],
    )
    fold_all(session, tenant)
    sums = {key[2].month: value[0] for key, value in counters(session, tenant).items()}
    assert sums == {11: 5, 12: 2}


def test_numbers_beyond_any_float_add_up_exactly(session: Session, tenant: str) -> None:
    big = "99999999999999999999.999999999999"
    put(session, tenant, [entry(f"k{i}", big) for i in range(10)] + [entry("s", "0.000000000001")])
    fold_all(session, tenant)
    assert counters(session, tenant)[CUSTOMER_MONTH][0] == Decimal(
        "999999999999999999999.999999999991"
    )


def test_who_finds_the_tenant_locked_goes_on(engine: Engine, session: Session, tenant: str) -> None:
    put(session, tenant, [entry("a")])
    with Session(engine) as other, unit_of_work(other):
        assert locks.try_lock(other, tenant)
        with unit_of_work(session):
            assert fold.fold(session, tenant, now=datetime.now(UTC)) is None
    assert fold_all(session, tenant) == 1


def test_a_row_that_cannot_be_folded_becomes_a_dead_letter(
    session: Session, tenant: str, now: datetime
) -> None:
    """The other 9,999 of its batch go on, and so does every other tenant."""
    other = f"{tenant}-other"
    with unit_of_work(session):
        tenants.create(session, other, mode="test", now=now)
        session.execute(text(_TRAP.format(suffix=tenant.replace("-", "_"), customer="cus_trap")))
    try:
        batch = [entry(f"k{i:05d}", 1, customer=f"cus_{i % 50}") for i in range(9_999)]
        batch.insert(7_123, entry("trapped", 5, customer="cus_trap"))
        put(session, tenant, batch)
        put(session, other, [entry("fine", 5)])
        assert fold_all(session, tenant) == 10_000
        assert fold_all(session, other) == 1
    finally:
        with unit_of_work(session):
            session.execute(text("DROP FUNCTION trap() CASCADE"))
    dead = session.execute(
        text("SELECT idempotency_key, error FROM dead_letters WHERE tenant_id = :t"), {"t": tenant}
    ).all()
    assert [row[0] for row in dead] == ["trapped"]
    assert "the trap has closed" in dead[0][1]
    assert sum(value[0] for value in counters(session, tenant).values()) == 9_999
    assert scalar(session, BALANCE, t=tenant) == 0
    totals = session.execute(
        text("SELECT folded, dead_letters FROM tenant_locks WHERE tenant_id = :t"), {"t": tenant}
    ).one()
    assert tuple(totals) == (9_999, 1)


_TRAP = """
CREATE OR REPLACE FUNCTION trap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.customer_ref = '{customer}' THEN RAISE EXCEPTION 'the trap has closed'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER trap_{suffix} BEFORE INSERT OR UPDATE ON counters
    FOR EACH ROW EXECUTE FUNCTION trap();
"""


def test_a_passing_error_buries_nobody(engine: Engine, session: Session, tenant: str) -> None:
    """A lock that is not to be had says nothing about the rows: they stay where they are."""
    put(session, tenant, [entry("a")])
    fold_all(session, tenant)
    put(session, tenant, [entry("b")])
    with Session(engine) as other, unit_of_work(other):
        other.execute(text("SELECT 1 FROM counters WHERE tenant_id = :t FOR UPDATE"), {"t": tenant})
        session.execute(text("SET LOCAL lock_timeout = '50ms'"))
        with pytest.raises(DBAPIError, match="lock timeout"), unit_of_work(session):
            fold.fold(session, tenant, now=datetime.now(UTC))
    assert scalar(session, "SELECT count(*) FROM dead_letters WHERE tenant_id = :t", t=tenant) == 0
    assert fold_all(session, tenant) == 1


def _history(seed: int, size: int) -> list[tuple[str, str, datetime, str, Decimal, str | None]]:
    """Random usage of a few customers over three months, ties in time among it."""
    chance = random.Random(seed)
    instants = [
        datetime(2026, 9, 1, tzinfo=UTC)
        + timedelta(microseconds=chance.randrange(91 * 86_400_000_000))
        for _ in range(max(1, size // 2))
    ]
    return [
        (
            f"cus_{chance.randrange(4)}",
            chance.choice(["api_calls", "seats"]),
            chance.choice(instants),
            f"k{i:04d}",
            Decimal(chance.randrange(10**8)).scaleb(-chance.randrange(12)),
            chance.choice([None, "r1", "r2", "r3"]),
        )
        for i in range(size)
    ]


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_folding_of_one_ledger_gives_the_same_counters(
    engine: Engine, data: st.DataObject
) -> None:
    """Any number, size, order and crash of folds, for one ledger and one history of closings.

    Periods of September close at a fixed instant; what was recorded later is set aside, and so is
    what commits once they are closed. At every commit: folded + set aside + dead letters +
    unfolded = ledger.
    """
    events = _history(data.draw(st.integers(0, 10**6)), data.draw(st.integers(1, 60)))
    closes_at = datetime(2026, 10, 3, tzinfo=UTC)
    with Session(engine) as session:
        tenant = _closing_tenant(session, closes_at)
        late: set[str] = set()
        is_closed = False
        remaining = list(events)
        while remaining:
            count = data.draw(st.integers(1, len(remaining)))
            part, remaining = remaining[:count], remaining[count:]
            recorded_at = data.draw(
                st.sampled_from([closes_at - timedelta(microseconds=1), closes_at])
            )
            put(session, tenant, [_entry_of(event) for event in part], now=recorded_at)
            if recorded_at >= closes_at or is_closed:
                late |= {e[3] for e in part if e[2].month == 9}
            for _ in range(data.draw(st.integers(0, 2))):
                _fold_or_crash(session, tenant, data)
                assert scalar(session, BALANCE, t=tenant) == 0
            if data.draw(st.booleans()):
                with unit_of_work(session):
                    is_closed |= closing.close_due(session, tenant, now=datetime.now(UTC)) > 0
                assert is_closed
        fold_all(session, tenant, limit=data.draw(st.integers(1, 100)))
        expected = computed([e for e in events if e[3] not in late], unique=True)
        assert counters(session, tenant) == expected
        aside = session.execute(
            text("SELECT idempotency_key FROM set_aside WHERE tenant_id = :t"), {"t": tenant}
        )
        assert set(aside.scalars()) == late
        assert scalar(session, BALANCE, t=tenant) == 0
        assert _from_segments(session, tenant) == {k: v[:4] for k, v in expected.items()}


def _closing_tenant(session: Session, closes_at: datetime) -> str:
    tenant = f"p-{random.SystemRandom().getrandbits(64):016x}"
    with unit_of_work(session):
        tenants.create(session, tenant, mode="test", now=closes_at)
        for metric in ("api_calls", "seats"):
            metrics.edit(session, tenant, metric, {"unique_enabled": True}, now=closes_at)
        session.execute(
            text(
                "INSERT INTO periods (tenant_id, schedule, start_at, end_at, closes_at)"
                " VALUES (:t, 'calendar', '2026-09-01Z', '2026-10-01Z', :closes_at)"
            ),
            {"t": tenant, "closes_at": closes_at},
        )
    return tenant


def _entry_of(event: tuple[str, str, datetime, str, Decimal, str | None]) -> Any:
    customer, metric, at, key, quantity, resource = event
    return entry(key, f"{quantity:f}", at, metric=metric, customer=customer, resource=resource)


def _fold_or_crash(session: Session, tenant: str, data: st.DataObject) -> None:
    """One fold transaction, which may be lost just before its commit."""
    crash = data.draw(st.booleans())
    limit = data.draw(st.integers(1, 70))
    fold.fold(session, tenant, now=datetime.now(UTC), limit=limit)
    if crash:
        session.rollback()
    else:
        session.commit()


def _from_segments(session: Session, tenant: str) -> dict[Any, Any]:
    """Counters put together again from their hours: they must be the same."""
    rows = session.execute(
        text(
            "SELECT customer_ref, metric,"
            " date_trunc('month', segment_start AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS month,"
            " sum(sum_value), sum(event_count), max(max_value),"
            " (array_agg(last_value ORDER BY last_occurred_at DESC, last_key DESC))[1]"
            " FROM segments WHERE tenant_id = :t GROUP BY 1, 2, 3"
        ),
        {"t": tenant},
    ).all()
    return {(r[0], r[1], r[2].astimezone(UTC)): tuple(r[3:]) for r in rows}


def test_a_closed_period_takes_nothing_more(session: Session, tenant: str) -> None:
    with unit_of_work(session):
        session.execute(
            text(
                "INSERT INTO periods (tenant_id, schedule, start_at, end_at, closes_at, closed_at)"
                " VALUES (:t, 'calendar', '2026-09-01Z', '2026-10-01Z', '2026-10-03Z',"
                " '2026-10-03Z')"
            ),
            {"t": tenant},
        )
    early = datetime(2026, 9, 10, tzinfo=UTC)
    put(session, tenant, [entry("a", 1, "2026-09-09T00:00:00Z")], now=early)
    fold_all(session, tenant)
    assert counters(session, tenant) == {}
    reason = scalar(session, "SELECT reason FROM set_aside WHERE tenant_id = :t", t=tenant)
    assert reason == "period_closed"


def test_a_cautious_metric_sets_aside_what_is_old_on_arrival(session: Session, tenant: str) -> None:
    arrival = datetime(2026, 11, 10, tzinfo=UTC)
    with unit_of_work(session):
        changes = {"late_policy": "age", "lateness_seconds": 3600}
        metrics.edit(session, tenant, "api_calls", changes, now=arrival)
    put(
        session,
        tenant,
        [entry("old", 1, "2026-11-09T22:59:59Z"), entry("young", 2, "2026-11-09T23:00:00Z")],
        now=arrival,
    )
    fold_all(session, tenant)
    assert counters(session, tenant)[CUSTOMER_MONTH][0] == 2
    reason = scalar(session, "SELECT reason FROM set_aside WHERE tenant_id = :t", t=tenant)
    assert reason == "older_than_window"


def test_a_plan_made_for_small_tables_does_not_outlive_them(
    engine: Engine, session: Session, tenant: str
) -> None:
    """A fold planned on empty tables once took over 30 s when they had grown to 100,000 rows."""
    statements = [fold._FOLD, append._COMPARE, append._PROBE]
    parameters = {"tenant_id": tenant, "limit": 10, "now": NOVEMBER, "entries": "[]", "key": "k"}
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(fold._SETTINGS)
            rows = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
            plan = "\n".join(row[0] for row in rows)
            connection.rollback()
            assert "Seq Scan" not in plan, plan
            # Each table that grows is reached by its whole key, never by the tenant alone.
            for table, last_column in (
                ("events", "idempotency_key"),
                ("counters", "period_start"),
                ("billing_periods", "start_at"),
            ):
                for scan in re.findall(rf"Scan using pk_{table} .*\n\s*Index Cond: (.*)", plan):
                    assert last_column in scan, plan
                assert f"Bitmap Heap Scan on {table}" not in plan, plan


def test_folding_goes_on_at_speed_when_empty_tables_grow(postgres_url: str, now: datetime) -> None:
    """In a database of its own, analysed while empty, with a statement prepared by then."""
    name = "grows_from_nothing"
    server = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {name}"))
    url = server.url.set(database=name).render_as_string(hide_password=False)
    migrate(url)
    growing = make_engine(url)
    with growing.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    with Session(growing) as session:
        with unit_of_work(session):
            tenants.create(session, "acme", mode="test", now=now)
        for i in range(12):  # until driver and server keep a plan
            put(session, "acme", [entry(f"first{i}")])
            fold_all(session, "acme")
        for part in range(3):
            batch = [entry(f"{part}-{i}", customer=f"cus_{part}_{i}") for i in range(10_000)]
            put(session, "acme", batch)
            with unit_of_work(session):
                # The right plan takes a third of a second, the wrong one minutes.
                session.execute(text("SET LOCAL statement_timeout = '8s'"))
                folded = fold.fold(session, "acme", now=now)
            assert folded is not None
            assert folded.taken == 10_000
    growing.dispose()
    server.dispose()
