"""Whatever a tenant has lived through: what is right is left alone, what is damaged is made right
again, a dry run says exactly what an apply does, and no closed period changes."""

import random
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from metering.catalog import metrics
from metering.catalog.period import Span
from metering.catalog.schedules import PlannedPeriod
from metering.counters import fold, periods
from metering.counters.replay import Budget
from metering.database import unit_of_work
from metering.tenancy import tenants
from tests.metering.test_replay import Replayer, numbers, told
from tests.support import entry, put
from tests.webapp.support import stored

SEPTEMBER = datetime(2026, 9, 1, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
CLOSES = datetime(2026, 10, 3, tzinfo=UTC)
WHOLE = Span(SEPTEMBER - timedelta(days=5), datetime(2026, 12, 20, tzinfo=UTC))
METRICS = {"calls": "sum", "jobs": "count", "peak": "max", "seats": "last", "users": "unique"}
# An anchor may lie on any microsecond; some on the hour, some in the hours that are used most.
EDGES = st.sampled_from(
    [
        OCTOBER + timedelta(days=4, hours=10, minutes=23, seconds=45, microseconds=678_901),
        OCTOBER + timedelta(days=4, hours=10),
        OCTOBER + timedelta(days=11, hours=23, minutes=59, seconds=59, microseconds=999_999),
        OCTOBER + timedelta(days=20, microseconds=1),
    ]
)
_OPEN = "tenant_id = :t AND segment_start >= '2026-10-01Z'"
_OPEN_COUNTER = "tenant_id = :t AND period_start >= '2026-10-01Z'"
DAMAGE = (
    f"UPDATE segments SET sum_value = sum_value * 2 + 1 WHERE {_OPEN} AND metric = 'calls'",
    f"UPDATE segments SET event_count = 0 WHERE {_OPEN} AND metric = 'jobs'",
    f"UPDATE segments SET max_value = 1e9, last_value = 3 WHERE {_OPEN}",
    f"DELETE FROM segments WHERE {_OPEN} AND customer_ref = 'cus_0'",
    f"DELETE FROM segments WHERE {_OPEN} AND metric IN ('seats', 'users')",
    f"DELETE FROM counters WHERE {_OPEN_COUNTER} AND customer_ref = 'cus_1'",
    f"UPDATE counters SET last_key = 'x', unique_count = 9 WHERE {_OPEN_COUNTER}",
    f"UPDATE counters SET period_end = period_end + interval '1 s' WHERE {_OPEN_COUNTER}"
    " AND metric = 'peak'",
    f"DELETE FROM unique_members WHERE {_OPEN_COUNTER} AND resource_key = 'r1'",
    "INSERT INTO unique_members SELECT tenant_id, customer_ref, metric, period_start, 'ghost'"
    f" FROM counters WHERE {_OPEN_COUNTER} AND metric = 'users' ON CONFLICT DO NOTHING",
)


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_replay_of_any_life(engine: Engine, data: st.DataObject) -> None:
    tenant = f"p-{uuid.uuid4()}"
    replayer = Replayer(engine, tenant, datetime(2026, 12, 1, tzinfo=UTC))
    with Session(engine) as session:
        _live(session, tenant, data)
        right = numbers(session, tenant)
        assert replayer.apply(span=WHOLE).is_right
        assert numbers(session, tenant) == right
        for statement in data.draw(st.lists(st.sampled_from(DAMAGE), min_size=1, max_size=4)):
            with unit_of_work(session):
                session.execute(text(statement), {"t": tenant})
        before = stored(session, tenant)
        dry = replayer.dry(span=WHOLE)
        assert stored(session, tenant) == before
        assert told(replayer.apply(span=WHOLE)) == told(dry)
        assert dry.closed == []
        assert numbers(session, tenant) == right
        tight = Budget(60.0, doubts=data.draw(st.sampled_from([1, 7, 1000])))
        pages = replayer.pages(applies=True, span=WHOLE, budget=tight)
        assert all(page.is_right and not page.changes for page in pages)


def _live(session: Session, tenant: str, data: st.DataObject) -> None:
    """Usage of a few customers, some late for September, which closes, and folds in between; one
    customer's subscription becomes known, and changes."""
    chance = random.Random(data.draw(st.integers(0, 10**6)))
    with unit_of_work(session):
        tenants.create(session, tenant, mode="test", now=SEPTEMBER)
        for metric, aggregation in METRICS.items():
            metrics.edit(session, tenant, metric, {"aggregation": aggregation}, now=SEPTEMBER)
            session.execute(
                text("UPDATE metrics SET unique_filled_to = NULL WHERE tenant_id = :t"),
                {"t": tenant},
            )
        session.execute(
            text("INSERT INTO periods (tenant_id, schedule, start_at, end_at, closes_at)"
                 " VALUES (:t, 'calendar', '2026-09-01Z', '2026-10-01Z', :at)"),
            {"t": tenant, "at": CLOSES},
        )  # fmt: skip
    edges = sorted(set(data.draw(st.lists(EDGES, min_size=1, max_size=3))))
    instants = [
        edge + chance.choice([-1, 0, 1]) * timedelta(microseconds=chance.choice([1, 10**9]))
        for edge in edges
    ] + [
        SEPTEMBER + timedelta(microseconds=chance.randrange(80 * 86_400 * 10**6)) for _ in range(9)
    ]
    number = 0
    for recorded_at in (CLOSES - timedelta(hours=1), CLOSES, CLOSES + timedelta(days=40)):
        entries = []
        for _ in range(data.draw(st.integers(0, 25))):
            number += 1
            entries.append(
                entry(
                    f"k{number:03d}",
                    Decimal(chance.randrange(10**6)).scaleb(-chance.randrange(4)),
                    chance.choice(instants),
                    metric=chance.choice(list(METRICS)),
                    customer=f"cus_{chance.randrange(2)}",
                    resource=chance.choice([None, "r1", "r2", "r" * 100]),
                )
            )
        put(session, tenant, entries, now=recorded_at)
        with unit_of_work(session):
            fold.fold(session, tenant, now=recorded_at, limit=data.draw(st.integers(1, 40)))
        if data.draw(st.booleans()):
            _subscribe(session, tenant, chance.sample(edges, len(edges)), recorded_at)
    with unit_of_work(session):
        session.execute(
            text("UPDATE periods SET closed_at = closes_at WHERE tenant_id = :t"
                 " AND start_at = '2026-09-01Z'"), {"t": tenant},
        )  # fmt: skip


def _subscribe(session: Session, tenant: str, edges: list[datetime], now: datetime) -> None:
    starts = sorted(edges)
    ends = [*starts[1:], starts[-1] + timedelta(days=30, microseconds=5)]
    spans = [PlannedPeriod(a, b, "si", "test") for a, b in zip(starts, ends, strict=True)]
    for metric in METRICS:
        with unit_of_work(session):
            periods.replan(session, tenant, "cus_0", metric, spans, now=now)
