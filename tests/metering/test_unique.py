"""Unique counts that were switched on late are completed from the ledger."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from metering.catalog import metrics
from metering.counters import doubts, doubts_members, history, unique
from metering.database import plan_as_sets, unit_of_work
from metering.errors import InvalidInputError
from tests.support import counters, entry, fold_all, put, scalar

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
KEY = ("cus_1", "api_calls", NOVEMBER)


def test_unique_counts_switched_on_late_are_completed_from_the_ledger(
    session: Session, tenant: str, engine: Engine
) -> None:
    put(session, tenant, [entry(f"a{i}", 1, resource=f"r{i % 7}") for i in range(50)])
    put(session, tenant, [entry("o", 1, "2026-09-05T00:00:00Z", resource="r1")])
    fold_all(session, tenant)
    put(session, tenant, [entry("waiting", 1, resource="r-waiting")])
    with unit_of_work(session):
        changed = metrics.edit(
            session, tenant, "api_calls", {"aggregation": "unique"}, now=datetime.now(UTC)
        )
        assert changed.unique_filled_to is not None
    put(session, tenant, [entry("new", 1, resource="r-new")])
    fold_all(session, tenant)
    assert counters(session, tenant)[KEY][4] == 2
    days = 0
    while True:
        with Session(engine) as another, unit_of_work(another):  # each day by another job
            if not unique.fill(another, tenant, "api_calls", now=datetime.now(UTC)):
                break
        days += 1
    assert days >= 60
    assert counters(session, tenant)[KEY][4] == 9
    assert counters(session, tenant)["cus_1", "api_calls", datetime(2026, 9, 1, tzinfo=UTC)][4] == 1
    left = "SELECT unique_filled_to FROM metrics WHERE tenant_id = :t"
    assert scalar(session, left, t=tenant) is None


def test_unique_cannot_be_switched_off_while_it_is_the_reading(
    session: Session, tenant: str
) -> None:
    now = datetime.now(UTC)
    with unit_of_work(session):
        metrics.edit(session, tenant, "m", {"aggregation": "unique"}, now=now)
    with pytest.raises(InvalidInputError), unit_of_work(session):
        metrics.edit(session, tenant, "m", {"unique_enabled": False}, now=now)


def test_statements_over_many_rows_join_no_rows_one_by_one(session: Session, tenant: str) -> None:
    """On tables never analysed a nested loop took 14 s for what a hash join does in 0.06 s."""
    put(session, tenant, [entry("a")])
    fold_all(session, tenant)
    parameters = {
        "tenant_id": tenant,
        "metric": "api_calls",
        "metrics": None,
        "customer_ref": None,
        "start_at": NOVEMBER,
        "end_at": NOVEMBER + timedelta(days=1),
        "last_at": NOVEMBER + timedelta(hours=23),
        "now": NOVEMBER,
        "starts": [NOVEMBER],
    }
    # Where a period begins within an hour the cut hours are few, and are joined to few.
    plain = {
        "apart": " ".join(doubts._APART.values()),
        "cuts": "",
        "cut": "",
        "segment_start": doubts.hour("e.occurred_at"),
        "kept": "",
        "only_events": "",
        "only_segments": "",
    }
    statements = (
        unique._FILL,
        history._FROM_LEDGER,
        doubts._SUMS.format(**plain),
        doubts._SEGMENTS.format(**plain),
        doubts._UNCOVERED,
        doubts_members._MISSING.format(**plain),
        doubts_members._SUPERFLUOUS,
    )
    for statement in statements:
        plan_as_sets(session)
        rows = session.connection().exec_driver_sql(f"EXPLAIN {statement}", parameters)
        plan = "\n".join(row[0] for row in rows)
        session.rollback()
        assert "Nested Loop" not in plan, plan
