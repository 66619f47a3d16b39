"""Replay makes counters what the ledger says; a dry run says exactly that, and leaves no trace."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from metering.catalog import metrics
from metering.catalog.period import Span
from metering.catalog.schedules import PlannedPeriod
from metering.counters import fold, mending, periods, voids
from metering.counters import replay as counted
from metering.counters.doubts import Place, Scope
from metering.counters.doubts_members import Member
from metering.counters.mending import Doubts
from metering.counters.replay import Budget, Step
from metering.database import unit_of_work
from metering.proof import replay
from metering.proof.replay import Asked, Page
from tests.stripe_setup import Connected, FakeStripe, connect, priced, push_all
from tests.support import entry, fold_all, put, scalar
from tests.webapp.support import stored

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
MONTH = Span(NOVEMBER, datetime(2026, 12, 1, tzinfo=UTC))
NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
BUDGET = Budget(60.0)


@dataclass(frozen=True)
class Replayer:
    """A tenant's replays. now: what a step is told."""

    engine: Engine
    tenant_id: str
    now: datetime = NOON + timedelta(hours=1)

    @property
    def step(self) -> Step:
        @contextmanager
        def opened() -> Iterator[tuple[Session, datetime]]:
            with Session(self.engine) as session, unit_of_work(session):
                yield session, self.now

        return opened

    def pages(
        self,
        *,
        applies: bool,
        span: Span = MONTH,
        budget: Budget = BUDGET,
        names: tuple[str, ...] | None = None,
        customer: str | None = None,
    ) -> list[Page]:
        asked = Asked(Scope(self.tenant_id, names, customer), span, applies)
        found, place = [], counted.start(span)
        while True:
            found.append(replay.page(self.step, asked, place, budget))
            following = found[-1].next
            if following is None:
                return found
            assert following != place, "it does not get on"
            place = following

    def dry(self, **how: object) -> Page:
        [page] = self.pages(applies=False, **how)  # type: ignore[arg-type]
        return page

    def apply(self, **how: object) -> Page:
        [page] = self.pages(applies=True, **how)  # type: ignore[arg-type]
        return page


@pytest.fixture
def replayer(engine: Engine, tenant: str) -> Replayer:
    return Replayer(engine, tenant)


def told(page: Page) -> Page:
    """The page without what tells a dry run from an apply."""
    return replace(page, asked=replace(page.asked, applies=False))


def numbers(session: Session, tenant: str) -> dict[str, list[str]]:
    """Every counted row, but for when it was folded."""
    rows = {
        table: list(
            session.execute(
                text(f"SELECT (to_jsonb(t) - 'folded_at' - 'reaggregations')::text FROM {table} t"
                     " WHERE tenant_id = :t ORDER BY 1"), {"t": tenant},
            ).scalars()
        )
        for table in ("counters", "segments", "unique_members", "set_aside", "unfolded")
    }  # fmt: skip
    session.rollback()
    return rows


def damage(session: Session, tenant: str, *statements: str) -> None:
    with unit_of_work(session):
        for statement in statements:
            changed = session.execute(text(statement), {"t": tenant})
            assert changed.rowcount, statement  # type: ignore[attr-defined]


def use(session: Session, tenant: str) -> None:
    """Five readings, three customers, hours all over the month."""
    with unit_of_work(session):
        metrics.edit(session, tenant, "users", {"aggregation": "unique"}, now=NOON)
    put(
        session,
        tenant,
        [
            entry(
                f"{metric}-{customer}-{i:03d}",
                Decimal(i * 37 % 91).scaleb(-2),
                NOVEMBER + timedelta(minutes=i * 401 % 14_000),
                metric=metric,
                customer=customer,
                resource=f"r{i % 5}" if metric == "users" else None,
            )
            for metric in ("api_calls", "users")
            for customer in ("cus_1", "cus_2", "cus_3")
            for i in range(40)
        ],
        now=NOON,
    )
    fold_all(session, tenant)


DAMAGE = {
    "a segment's sum": "UPDATE segments SET sum_value = sum_value + 1 WHERE tenant_id = :t"
    " AND customer_ref = 'cus_1'",
    "a segment's last value": "UPDATE segments SET last_value = last_value + 1"
    " WHERE tenant_id = :t AND metric = 'api_calls'",
    "a segment's last key": "UPDATE segments SET last_key = 'zzz' WHERE tenant_id = :t"
    " AND customer_ref = 'cus_2'",
    "a segment's maximum": "UPDATE segments SET max_value = 0 WHERE tenant_id = :t",
    "segments that are gone": "DELETE FROM segments WHERE tenant_id = :t"
    " AND segment_start < '2026-11-04Z'",
    "segments that never were": "INSERT INTO segments SELECT tenant_id, 'cus_ghost', metric,"
    " segment_start, event_count, sum_value, max_value, last_value, last_occurred_at, last_key"
    " FROM segments WHERE tenant_id = :t AND customer_ref = 'cus_2'",
    "a counter's sum": "UPDATE counters SET sum_value = 1 WHERE tenant_id = :t"
    " AND customer_ref = 'cus_3'",
    "a counter's last value": "UPDATE counters SET last_value = 99 WHERE tenant_id = :t",
    "a counter's watermark": "UPDATE counters SET watermark = watermark + interval '1 day'"
    " WHERE tenant_id = :t AND customer_ref = 'cus_1'",
    "a counter's end": "UPDATE counters SET period_end = period_end - interval '3 days'"
    " WHERE tenant_id = :t AND customer_ref = 'cus_1'",
    "a counter that begins where no period does": "UPDATE counters SET"
    " period_start = period_start + interval '2 hours' WHERE tenant_id = :t"
    " AND customer_ref = 'cus_1'",
    "counters that are gone": "DELETE FROM counters WHERE tenant_id = :t",
    "counters that never were": "INSERT INTO counters SELECT tenant_id, 'cus_ghost', metric,"
    " period_start, period_end, unique_count, watermark, reaggregations, folded_at, event_count,"
    " sum_value, max_value, last_value, last_occurred_at, last_key FROM counters"
    " WHERE tenant_id = :t AND customer_ref = 'cus_2'",
    "a unique count": "UPDATE counters SET unique_count = 77 WHERE tenant_id = :t"
    " AND metric = 'users'",
    "members that are gone": "DELETE FROM unique_members WHERE tenant_id = :t"
    " AND resource_key = 'r1'",
    "members that never were": "INSERT INTO unique_members SELECT tenant_id, customer_ref, metric,"
    " period_start, 'ghost' FROM unique_members WHERE tenant_id = :t AND resource_key = 'r2'",
    "everything": "DELETE FROM segments WHERE tenant_id = :t",
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_damaged_is_found_told_and_mended(
    session: Session, tenant: str, replayer: Replayer, what: str
) -> None:
    use(session, tenant)
    right = numbers(session, tenant)
    assert replayer.dry().is_right
    damage(session, tenant, DAMAGE[what])
    if what == "everything":
        damage(session, tenant, "DELETE FROM counters WHERE tenant_id = :t",
               "DELETE FROM unique_members WHERE tenant_id = :t")  # fmt: skip
    before = stored(session, tenant)
    dry = replayer.dry()
    assert not dry.is_right
    assert stored(session, tenant) == before, "a dry run leaves no trace"
    applied = replayer.apply()
    assert told(applied) == told(dry), "an apply does what the dry run said"
    assert numbers(session, tenant) == right
    again = stored(session, tenant)
    second = replayer.apply()
    assert second.is_right
    assert second.changes == []
    assert stored(session, tenant) == again, "the second time nothing changes"


def test_what_is_unfolded_is_neither_lost_nor_counted_twice(
    session: Session, tenant: str, replayer: Replayer
) -> None:
    """5 of 105 events are unfolded while a replay runs, and more arrive: 105, not 110, not 100."""
    put(session, tenant, [entry(f"a{i:03d}") for i in range(100)], now=NOON)
    fold_all(session, tenant)
    put(session, tenant, [entry(f"b{i}") for i in range(5)], now=NOON)
    damage(session, tenant, "UPDATE segments SET sum_value = 3 WHERE tenant_id = :t")
    page = replayer.apply()
    assert page.found == {"api_calls": 100}
    assert _sum(session, tenant) == 100
    put(session, tenant, [entry(f"c{i}") for i in range(3)], now=NOON)
    assert replayer.apply().is_right
    fold_all(session, tenant)
    assert _sum(session, tenant) == 108
    assert replayer.apply().is_right


def _sum(session: Session, tenant: str) -> Decimal:
    sql = "SELECT sum(sum_value) FROM counters WHERE tenant_id = :t"
    value: Decimal = session.execute(text(sql), {"t": tenant}).scalar_one()
    session.rollback()
    return value


def test_what_was_set_aside_stays_so_and_is_counted_as_late(
    session: Session, tenant: str, replayer: Replayer
) -> None:
    with unit_of_work(session):
        metrics.edit(
            session, tenant, "api_calls", {"late_policy": "age", "lateness_seconds": 3600}, now=NOON
        )
    put(session, tenant, [entry("old", 5, "2026-11-02T00:00:00Z"), entry("young", 7, NOON)],
        now=NOON)  # fmt: skip
    fold_all(session, tenant)
    with unit_of_work(session):
        metrics.edit(session, tenant, "api_calls", {"late_policy": "period"}, now=NOON)
    page = replayer.apply()
    assert page.is_right
    assert (page.found, page.late) == ({"api_calls": 1}, {"api_calls": 1})
    assert _sum(session, tenant) == 7


def test_dead_letters_stay_where_they_are(
    session: Session, tenant: str, replayer: Replayer
) -> None:
    put(session, tenant, [entry("a", 5), entry("b", 7)], now=NOON)
    damage(
        session, tenant,
        "INSERT INTO dead_letters (tenant_id, idempotency_key, error, failed_at)"
        " SELECT tenant_id, idempotency_key, 'x', recorded_at FROM unfolded"
        " WHERE tenant_id = :t AND idempotency_key = 'b'",
        "DELETE FROM unfolded WHERE tenant_id = :t AND idempotency_key = 'b'",
    )  # fmt: skip
    fold_all(session, tenant)
    assert replayer.apply().is_right
    assert _sum(session, tenant) == 5


def test_a_closed_period_is_told_and_never_changed(
    session: Session, tenant: str, replayer: Replayer
) -> None:
    use(session, tenant)
    put(session, tenant, [entry("december", 4, "2026-12-01T00:00:00Z")], now=NOON)
    fold_all(session, tenant)
    damage(
        session, tenant,
        "UPDATE segments SET sum_value = sum_value + 2, event_count = event_count + 1"
        " WHERE tenant_id = :t AND customer_ref = 'cus_1' AND metric = 'api_calls'"
        " AND segment_start < '2026-11-03Z'",
        "UPDATE counters SET sum_value = 0 WHERE tenant_id = :t AND customer_ref = 'cus_2'",
        "UPDATE counters SET sum_value = 0 WHERE tenant_id = :t AND period_start = '2026-12-01Z'",
        "DELETE FROM unique_members WHERE tenant_id = :t AND customer_ref = 'cus_3'"
        " AND resource_key = 'r1'",
        "UPDATE periods SET closes_at = '2026-12-03Z', closed_at = '2026-12-03Z'"
        " WHERE tenant_id = :t AND start_at = '2026-11-01Z'",
    )  # fmt: skip
    before = numbers(session, tenant)
    whole = Span(NOVEMBER, datetime(2026, 12, 2, tzinfo=UTC))
    page = replayer.apply(span=whole)
    assert [(c.customer_ref, c.metric, c.before, c.after) for c in page.changes] == [
        ("cus_1", "api_calls", 0, 4)
    ]
    kept = {(c.customer_ref, c.metric): c for c in page.closed}
    assert set(kept) == {
        ("cus_1", "api_calls"), ("cus_2", "api_calls"), ("cus_2", "users"), ("cus_3", "users"),
    }  # fmt: skip
    one = kept["cus_1", "api_calls"]
    assert one.segments > 1
    assert (one.difference.events, one.difference.quantity) == (-one.segments, -2 * one.segments)
    after = numbers(session, tenant)
    assert {k: v for k, v in after.items() if k != "counters"} == {
        k: v for k, v in before.items() if k != "counters"
    }
    assert len(set(after["counters"]) ^ set(before["counters"])) == 2


def test_hours_that_a_boundary_cuts_are_right_and_are_mended(
    session: Session, tenant: str, replayer: Replayer
) -> None:
    """A subscription anchored on the 5th at 10:23:45.6; the next period begins within an hour,
    too, and another customer's item ends between two events of one hour."""
    edge = datetime(2026, 11, 5, 10, 23, 45, 600_000, tzinfo=UTC)
    ends = edge + timedelta(minutes=20)
    around = [edge - timedelta(microseconds=1), edge, ends - timedelta(microseconds=1), ends]
    for ref, spans in {
        "cus_1": [(edge, edge + timedelta(days=30))],
        "cus_2": [(edge, ends), (ends, ends + timedelta(days=9))],
        "cus_3": [(edge - timedelta(days=30), edge)],
    }.items():
        put(session, tenant,
            [entry(f"{ref}-{i}", i + 1, at, customer=ref, resource=f"r{i}")
             for i, at in enumerate(around)],
            now=NOON)  # fmt: skip
        with unit_of_work(session):
            metrics.edit(session, tenant, "api_calls", {"unique_enabled": True}, now=NOON)
        fold_all(session, tenant)
        with unit_of_work(session):
            wanted = [PlannedPeriod(start, end, "si", "live") for start, end in spans]
            periods.replan(session, tenant, ref, "api_calls", wanted, now=NOON)
    right = numbers(session, tenant)
    assert len(right["counters"]) == 7
    assert len(right["segments"]) == 7
    whole = Span(NOVEMBER - timedelta(days=40), MONTH.end_at + timedelta(days=10))
    assert replayer.dry(span=whole).is_right
    for statement in (
        "UPDATE segments SET sum_value = 0 WHERE tenant_id = :t",
        "DELETE FROM segments WHERE tenant_id = :t",
        "DELETE FROM counters WHERE tenant_id = :t",
        "DELETE FROM unique_members WHERE tenant_id = :t",
    ):
        damage(session, tenant, statement)
        dry = replayer.dry(span=whole)
        assert told(replayer.apply(span=whole)) == told(dry)
        assert numbers(session, tenant) == right
        assert replayer.apply(span=whole).is_right


def test_a_walk_by_pages_mends_what_one_page_would(
    session: Session, tenant: str, replayer: Replayer
) -> None:
    use(session, tenant)
    right = numbers(session, tenant)
    damage(session, tenant, DAMAGE["a segment's sum"], DAMAGE["counters that are gone"])
    [whole] = replayer.pages(applies=False)
    tight = Budget(60.0, doubts=30)
    dry = replayer.pages(applies=False, budget=tight)
    assert len(dry) > 3
    assert sum((sum(page.found.values()) for page in dry), 0) == sum(whole.found.values())
    applied = replayer.pages(applies=True, budget=tight)
    assert sum(page.segments for page in applied) == sum(page.segments for page in dry)
    assert numbers(session, tenant) == right
    assert all(page.is_right for page in replayer.pages(applies=True, budget=tight))
    # Nothing to be done costs no more pages than time allows.
    assert len(replayer.pages(applies=True, budget=tight)) == 1


def test_only_what_is_asked_for_is_touched(
    session: Session, tenant: str, replayer: Replayer
) -> None:
    use(session, tenant)
    right = numbers(session, tenant)
    damage(session, tenant, "UPDATE counters SET sum_value = 0 WHERE tenant_id = :t")
    page = replayer.apply(names=("api_calls",), customer="cus_2")
    assert [(c.customer_ref, c.metric) for c in page.changes] == [("cus_2", "api_calls")]
    assert len(set(numbers(session, tenant)["counters"]) & set(right["counters"])) == 1
    assert replayer.apply(customer="nobody").is_right
    replayer.apply(names=("users", "api_calls"))
    assert numbers(session, tenant) == right


def test_another_tenants_numbers_are_left_alone(
    session: Session, tenant: str, stranger: str, replayer: Replayer
) -> None:
    for each in (tenant, stranger):
        use(session, each)
        damage(session, each, DAMAGE["a segment's sum"], DAMAGE["members that are gone"])
    before = stored(session, stranger)
    replayer.apply()
    assert stored(session, stranger) == before


def test_the_default_range_begins_with_the_oldest_open_period(
    session: Session, tenant: str
) -> None:
    for month in (8, 9, 10):
        put(session, tenant, [entry(f"m{month}", 1, f"2026-{month:02d}-07T00:00:00Z")], now=NOON)
    fold_all(session, tenant)
    scope = Scope(tenant)
    late = NOON + timedelta(minutes=1)
    assert counted.span(session, scope, None, None, now=late) == Span(
        datetime(2026, 8, 1, tzinfo=UTC), NOON + timedelta(hours=1)
    )
    closed = "UPDATE periods SET closes_at = '2026-09-03Z', closed_at = '2026-09-03Z'"
    damage(session, tenant, f"{closed} WHERE tenant_id = :t AND start_at = '2026-08-01Z'")
    assert counted.span(session, scope, None, None, now=NOON).start_at == datetime(
        2026, 9, 1, tzinfo=UTC
    )
    nobody = Scope(tenant, None, "nobody")
    assert counted.span(session, nobody, None, None, now=NOON) == Span(NOVEMBER, NOON)


@pytest.fixture
def acme(session: Session) -> Connected:
    return priced(session, connect(session, now=NOON))


def test_the_money_and_the_pushes_are_those_that_follow(
    engine: Engine, session: Session, acme: Connected
) -> None:
    """110 units cost 5.00 at 0.50 beyond the first 100; Stripe then gets what it lacks."""
    stripe, tenant = FakeStripe(), acme.tenant_id
    put(
        session, tenant, [entry("a", 90, NOON), entry("b", 20, NOON - timedelta(hours=3))], now=NOON
    )
    with unit_of_work(session):
        fold.fold(session, tenant, now=NOON)
    damage(session, tenant, "UPDATE segments SET sum_value = 70 WHERE tenant_id = :t"
           " AND segment_start = '2026-11-10 12:00Z'",
           "UPDATE counters SET sum_value = 90 WHERE tenant_id = :t")  # fmt: skip
    later = NOON + timedelta(minutes=30)
    push_all(session, acme, stripe, now=later)
    assert stripe.total() == 90
    replayer = Replayer(engine, tenant, later)
    before = stored(session, tenant)
    dry = replayer.dry()
    assert stored(session, tenant) == before
    [change] = dry.changes
    assert (change.before, change.after, change.amount_before, change.amount_after) == (
        90, 110, 0, 500,
    )  # fmt: skip
    assert [(d.mode, d.quantity, d.why_not) for d in dry.stripe] == [("live", 20, None)]
    assert told(replayer.apply()) == told(dry)
    push_all(session, acme, stripe, now=later + timedelta(minutes=1))
    assert stripe.total() == 110
    assert replayer.apply().is_right


def test_a_level_that_only_differences_carry_is_sent_as_one(
    engine: Engine, session: Session
) -> None:
    acme = priced(session, connect(session, now=NOON), aggregation="max")
    stripe, tenant = FakeStripe(), acme.tenant_id
    put(
        session,
        tenant,
        [entry("a", 120, NOON), entry("b", 20, NOON - timedelta(hours=3))],
        now=NOON,
    )
    with unit_of_work(session):
        fold.fold(session, tenant, now=NOON)
    damage(session, tenant, "UPDATE segments SET max_value = 130 WHERE tenant_id = :t"
           " AND segment_start = '2026-11-10 12:00Z'",
           "UPDATE counters SET max_value = 130 WHERE tenant_id = :t")  # fmt: skip
    later = NOON + timedelta(minutes=30)
    push_all(session, acme, stripe, now=later)
    replayer = Replayer(engine, tenant, later)
    dry = replayer.dry()
    [change] = dry.changes
    assert (change.aggregation, change.before, change.after, change.counted) == ("max", 130, 120, 0)
    assert (change.amount_before, change.amount_after) == (1500, 1000)
    assert [(d.mode, d.quantity) for d in dry.stripe] == [("live", -10)]
    assert told(replayer.apply()) == told(dry)
    push_all(session, acme, stripe, now=later + timedelta(minutes=1))
    assert stripe.total() == 120


def test_what_was_decided_counts_on_top_of_what_is_mended(
    engine: Engine, session: Session, tenant: str, replayer: Replayer
) -> None:
    put(session, tenant, [entry("a", 5), entry("b", 7), entry("c", 11)], now=NOON)
    fold_all(session, tenant)
    with unit_of_work(session):
        voids.void(session, tenant, "b", reason="a test", actor="test", now=NOON)
    right = stored(session, tenant)
    damage(session, tenant, "UPDATE segments SET sum_value = 1 WHERE tenant_id = :t",
           "UPDATE corrected_segments SET sum_value = 1 WHERE tenant_id = :t",
           "UPDATE counters SET sum_value = 1 WHERE tenant_id = :t",
           "UPDATE corrected_counters SET sum_value = 1 WHERE tenant_id = :t")  # fmt: skip
    dry = replayer.dry()
    assert [(c.before, c.after) for c in dry.changes] == [(1, 16)]
    assert told(replayer.apply()) == told(dry)
    for table in ("segments", "corrected_segments"):
        assert stored(session, tenant)[table] == right[table]
    assert replayer.apply().is_right


def test_what_was_folded_since_the_doubt_was_raised_is_no_error(
    engine: Engine, session: Session, tenant: str
) -> None:
    """A member that nothing named when it was looked for is named by now, and an hour is right."""
    with unit_of_work(session):
        metrics.edit(session, tenant, "users", {"aggregation": "unique"}, now=NOON)
    put(session, tenant, [entry("a", metric="users", resource="r1")], now=NOON)
    fold_all(session, tenant)
    ghosts = [Member("cus_1", "users", NOVEMBER, name) for name in ("r2", "r3")]
    with unit_of_work(session):
        session.execute(
            text("INSERT INTO unique_members SELECT tenant_id, customer_ref, metric, period_start,"
                 " unnest(ARRAY['r2', 'r3']) FROM unique_members WHERE tenant_id = :t"),
            {"t": tenant},
        )  # fmt: skip
        session.execute(text("UPDATE counters SET unique_count = 3 WHERE tenant_id = :t"),
                        {"t": tenant})  # fmt: skip
    put(session, tenant, [entry("b", metric="users", resource="r2")],
        now=NOON + timedelta(seconds=1))  # fmt: skip
    fold_all(session, tenant)
    doubts = Doubts(
        segments=[Place("cus_1", "users", NOON)],
        counters=[Place("cus_1", "users", NOON)],
        superfluous=ghosts,
        asked_at=NOON,
    )
    with unit_of_work(session):
        mending.lock(session, tenant)
        done = mending.mend(session, tenant, doubts, now=NOON)
    assert (done.segments, done.members) == ([], [ghosts[1]])
    sql = "SELECT unique_count FROM counters WHERE tenant_id = :t"
    assert scalar(session, sql, t=tenant) == 2
