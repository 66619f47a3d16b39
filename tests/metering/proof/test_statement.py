"""A statement is a billing period as it stood at one instant, and its totals are the shown ones."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from metering.catalog import metrics
from metering.catalog.models import BillingPeriod
from metering.catalog.period import Span
from metering.counters import adjustments, deciding, fold, standing, unique, usage, voids
from metering.counters.models import Adjustment, DeadLetter, SetAside, Void
from metering.database import unit_of_work
from metering.errors import ConflictError
from metering.ledger import append
from metering.ledger.models import Event
from metering.proof import frame, statement, trail
from metering.proof.frame import Frame
from metering.proof.moment import Moment
from metering.proof.trail import Calling
from metering.tenancy import tenants
from pricing.numbers import plain
from pricing.price import from_config
from tests.metering.proof.statements import check, seal
from tests.stripe_setup import Connected, add_mapping
from tests.support import entry, fold_all, put

NOVEMBER = Span(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
LATER = datetime(2026, 12, 5, tzinfo=UTC)
Step = Callable[[], AbstractContextManager[Session]]


@pytest.fixture
def step(engine: Engine) -> Step:
    return step_of(engine)


def step_of(engine: Engine) -> Step:
    @contextmanager
    def one() -> Iterator[Session]:
        with Session(engine) as session, unit_of_work(session):
            yield session

    return one


def fixed(step: Step, tenant: str, *, now: datetime = LATER, span: Span = NOVEMBER) -> Frame:
    with step() as session:
        return frame.fix(session, tenant, "cus_1", span, now=now)


def written(step: Step, of: Frame) -> list[dict[str, Any]]:
    return list(statement.records(of, step, generated_at=LATER))  # type: ignore[arg-type]


def of_type(records: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [record for record in records if record["type"] == name]


def test_a_period_is_all_its_events_and_the_shown_totals(
    session: Session, step: Step, tenant: str
) -> None:
    put(session, tenant, [
        entry("b", "2.50", "2026-11-20T00:00:00Z", source="api", resource="r", meta='{"a": 1}'),
        entry("a", 1, "2026-11-01T00:00:00Z"),
        entry("seat", 3, "2026-11-20T00:00:00Z", metric="seats"),
        entry("before", 9, "2026-10-31T23:59:59.999999Z"),
        entry("after", 9, "2026-12-01T00:00:00Z"),
        entry("other", 9, customer="cus_2"),
    ], now=datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC))  # fmt: skip
    fold_all(session, tenant)
    to = Connected(tenant, "acct_none")
    price = from_config({"model": "per_unit", "currency": "usd", "unitPrice": "2"})
    add_mapping(session, to, price=price, currency="usd")
    records = written(step, fixed(step, tenant))
    assert records[0] | {"asOf": None} == {
        "type": "statement", "version": "1", "tenantId": tenant, "customerRef": "cus_1",
        "periodStart": "2026-11-01T00:00:00Z", "periodEnd": "2026-12-01T00:00:00Z", "asOf": None,
        "generatedAt": "2026-12-05T00:00:00Z",
    }  # fmt: skip
    events = of_type(records, "event")
    assert [(each["n"], each["id"]) for each in events] == [(1, "a"), (2, "b"), (3, "seat")]
    assert events[1] | {"digest": None} == {
        "type": "event", "n": 2, "id": "b", "metric": "api_calls", "quantity": "2.5",
        "ts": "2026-11-20T00:00:00Z", "recordedAt": "2026-11-21T01:02:03Z", "resourceId": "r",
        "source": "api", "status": "counted", "counts": True, "digest": None,
    }  # fmt: skip
    [calls, seats] = of_type(records, "total")
    assert (calls["metric"], calls["value"], calls["amount"]) == ("api_calls", "3.5", "7.00")
    assert (seats["metric"], seats["value"], seats["amount"]) == ("seats", "3", None)
    assert check(seal(records)).problems == []


def test_each_event_says_where_it_stands(session: Session, step: Step, tenant: str) -> None:
    keys = ("counted", "aside", "dead", "waiting")
    put(session, tenant, [entry(key, 2) for key in keys], now=LATER)
    with unit_of_work(session):
        for key in ("aside", "dead", "waiting"):
            session.execute(
                text("DELETE FROM unfolded WHERE tenant_id = :t AND idempotency_key = :k"),
                {"t": tenant, "k": key},
            )
        session.add(
            SetAside(
                tenant_id=tenant, idempotency_key="aside", customer_ref="cus_1",
                metric="api_calls", period_start=NOVEMBER.start_at, quantity=2,
                reason="after_closing", set_aside_at=LATER,
            )
        )  # fmt: skip
        session.add(
            DeadLetter(tenant_id=tenant, idempotency_key="dead", error="22003: x", failed_at=LATER)
        )
    fold_all(session, tenant)
    with unit_of_work(session):
        session.execute(
            text("INSERT INTO unfolded (tenant_id, recorded_at, idempotency_key)"
                 " VALUES (:t, :at, 'waiting')"),
            {"t": tenant, "at": LATER},
        )  # fmt: skip
    records = written(step, fixed(step, tenant))
    standing = {each["id"]: (each["status"], each["counts"]) for each in of_type(records, "event")}
    assert standing == {
        "counted": ("counted", True), "aside": ("set_aside", False),
        "dead": ("dead_letter", False), "waiting": ("unfolded", False),
    }  # fmt: skip
    assert [each["value"] for each in of_type(records, "total")] == ["2"]
    assert records[0]["asOf"] == "2026-12-05T00:00:00Z"


def test_decisions_are_lines_and_part_of_the_totals(
    session: Session, step: Step, tenant: str
) -> None:
    """Approved late usage counts by its own lines, a delta by its line; what is settled outside
    the meter counts nowhere."""
    put(session, tenant, [entry(key, 2) for key in ("counted", "late", "refused")], now=LATER)
    of = {"customer_ref": "cus_1", "metric": "api_calls", "period_start": NOVEMBER.start_at}
    decided = {"reason": "late", "created_at": LATER, "created_by": "x", "decided_at": LATER,
               "decided_by": "ann", "tenant_id": tenant} | of  # fmt: skip
    carried = {"segment_start": datetime(2026, 12, 1, 5, tzinfo=UTC), "carried": 50}
    here = {"segment_start": NOVEMBER.start_at, "carried": 10}
    earlier = {"period_start": datetime(2026, 10, 1, tzinfo=UTC)}
    with unit_of_work(session):
        for name, kind, status, disposition, more in (
            ("a1", "events", "approved", "apply", {}),
            ("a2", "events", "declined", None, {}),
            ("a3", "delta", "approved", "apply", {"delta": -1}),
            ("a4", "delta", "approved", "credit_note", {"delta": -100}),
            ("a5", "delta", "approved", "carry_forward", {"delta": 50} | carried),
            ("a6", "events", "approved", "carry_forward", here | earlier),
            ("a7", "delta", "pending", None, {"delta": 7}),
            # Of a metric that is billed by another schedule.
            ("a8", "events", "approved", "carry_forward", here | earlier | {"metric": "seats"}),
        ):
            session.add(
                Adjustment(
                    **decided | more, adjustment_id=name, kind=kind, status=status,
                    disposition=disposition, origin="manual",
                )
            )  # fmt: skip
        for key, name in (("late", "a1"), ("refused", "a2")):
            session.execute(
                text("DELETE FROM unfolded WHERE tenant_id = :t AND idempotency_key = :k"),
                {"t": tenant, "k": key},
            )
            session.add(
                SetAside(
                    tenant_id=tenant, idempotency_key=key, quantity=2, reason="after_closing",
                    set_aside_at=LATER, adjustment_id=name, **of,
                )
            )  # fmt: skip
    fold_all(session, tenant)
    with unit_of_work(session):  # the one total, as the decisions make it: 2 + 2 - 1 + 10
        session.execute(
            text("UPDATE counters SET sum_value = 13 WHERE tenant_id = :t"), {"t": tenant}
        )
    records = written(step, fixed(step, tenant))
    counting = {each["id"]: each["counts"] for each in of_type(records, "event")}
    assert counting == {"counted": True, "late": True, "refused": False}
    deltas = {each["id"]: each["delta"] for each in of_type(records, "adjustment")}
    assert deltas == {"a1": None, "a3": "-1", "a4": None, "a5": None, "a6": "10"}
    assert [each["value"] for each in of_type(records, "total")] == ["13"]
    assert check(seal(records)).is_good


def test_what_comes_while_it_is_written_is_not_in_it(
    session: Session, step: Step, tenant: str, now: datetime
) -> None:
    """Neither what arrives after its instant, nor that what was waiting then is counted since."""
    put(session, tenant, [entry("a", 1)], now=now)
    fold_all(session, tenant)
    put(session, tenant, [entry("b", 10)], now=now)
    of = fixed(step, tenant, now=now)
    put(session, tenant, [entry("c", 100)], now=now)
    fold_all(session, tenant)
    records = written(step, of)
    assert [(e["id"], e["status"]) for e in of_type(records, "event")] == [
        ("a", "counted"), ("b", "unfolded"),
    ]  # fmt: skip
    assert [each["value"] for each in of_type(records, "total")] == ["1"]
    assert check(seal(records)).is_good
    [total] = of_type(written(step, fixed(step, tenant, now=now)), "total")
    assert total["value"] == "111"


def test_a_transaction_that_is_open_at_the_instant_is_not_in_it(
    engine: Engine, session: Session, step: Step, tenant: str, now: datetime
) -> None:
    put(session, tenant, [entry("a", 1)], now=now)
    fold_all(session, tenant)
    with Session(engine) as other, unit_of_work(other):
        append.append(other, tenant, [entry("b", 10)], now=now)
        of = fixed(step, tenant, now=now)
    assert [each["id"] for each in of_type(written(step, of), "event")] == ["a"]


def test_a_decision_while_it_is_written_breaks_it_off(
    session: Session, step: Step, tenant: str
) -> None:
    put(session, tenant, [entry("a", 1)], now=LATER)
    fold_all(session, tenant)
    of = fixed(step, tenant)
    with unit_of_work(session):
        session.add(
            Void(
                tenant_id=tenant, idempotency_key="a", customer_ref="cus_1", metric="api_calls",
                occurred_at=NOVEMBER.start_at, reason="x", actor="me", voided_at=LATER,
            )
        )  # fmt: skip
    with pytest.raises(ConflictError, match="ask for it again"):
        written(step, of)


def test_totals_that_the_lines_do_not_come_to_are_never_signed(
    session: Session, step: Step, tenant: str
) -> None:
    put(session, tenant, [entry("a", 1)], now=LATER)
    fold_all(session, tenant)
    with unit_of_work(session):
        session.execute(
            text("UPDATE counters SET sum_value = 2 WHERE tenant_id = :t"), {"t": tenant}
        )
    with pytest.raises(ConflictError):
        written(step, fixed(step, tenant))


def test_a_metric_of_another_schedule_is_not_in_it(
    session: Session, step: Step, tenant: str
) -> None:
    middle = datetime(2026, 11, 15, 10, 23, 45, tzinfo=UTC)
    with unit_of_work(session):
        session.add(
            BillingPeriod(
                tenant_id=tenant, customer_ref="cus_1", metric="seats", mode="test",
                start_at=middle, end_at=middle + timedelta(days=30), item_id="si_1",
            )
        )  # fmt: skip
    put(session, tenant, [
        entry("a", 1), entry("in", 3, middle, metric="seats"),
        entry("out", 5, middle - timedelta(seconds=1), metric="seats"),
        entry("next", 7, middle + timedelta(days=30), metric="seats"),
    ], now=LATER)  # fmt: skip
    fold_all(session, tenant)
    records = written(step, fixed(step, tenant))
    assert [each["id"] for each in of_type(records, "event")] == ["a", "out"]
    seats = Span(middle, middle + timedelta(days=30))
    records = written(step, fixed(step, tenant, span=seats))
    assert [each["id"] for each in of_type(records, "event")] == ["in"]
    assert [each["value"] for each in of_type(records, "total")] == ["3"]


def test_a_level_that_stands_from_before_is_carried(
    session: Session, step: Step, tenant: str
) -> None:
    with unit_of_work(session):
        changes = {"aggregation": "last", "carry_over": True}
        metrics.edit(session, tenant, "seats", changes, now=LATER)
    put(session, tenant, [entry("a", 50, "2026-10-10T00:00:00Z", metric="seats")], now=LATER)
    fold_all(session, tenant)
    records = written(step, fixed(step, tenant))
    [total] = of_type(records, "total")
    assert (total["value"], total["carried"]) == ("50", "50")
    assert check(seal(records)).is_good


def test_pages_are_cut_anywhere_and_lose_nothing(
    session: Session, step: Step, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Crowded hours are read in shorter slices, a crowded second key by key."""
    monkeypatch.setattr(statement, "PAGE", 7)
    chance = random.Random(7)
    start = NOVEMBER.start_at
    crowded = [entry(f"c{i:02d}", 1, start + timedelta(days=3)) for i in range(30)]
    spread = [
        entry(f"s{i:02d}", 1, start + timedelta(seconds=chance.randrange(30 * 86_400)))
        for i in range(60)
    ]
    dense = [entry(f"d{i:02d}", 1, start + timedelta(hours=9, seconds=i)) for i in range(50)]
    put(session, tenant, crowded + spread + dense, now=LATER)
    fold_all(session, tenant)
    events = of_type(written(step, fixed(step, tenant)), "event")
    assert len(events) == 140
    assert sorted(each["id"] for each in events) == sorted(
        each.idempotency_key for each in crowded + spread + dense
    )
    order = [(datetime.fromisoformat(each["ts"]), each["id"]) for each in events]
    assert order == sorted(order)


@settings(
    max_examples=15, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(data=st.data())
def test_the_totals_are_those_that_usage_shows(engine: Engine, data: st.DataObject) -> None:
    """For any usage, partly folded, by each aggregation; and the lines alone come to them."""
    step, now = step_of(engine), LATER
    names = ("sum", "count", "max", "last", "unique")
    with Session(engine) as session:
        tenant = f"p-{random.SystemRandom().getrandbits(64):016x}"
        with unit_of_work(session):
            tenants.create(session, tenant, mode="test", now=now)
            for name in names:
                metrics.edit(session, tenant, name, {"aggregation": name}, now=now)
        for name in names:
            fill(session, tenant, name)
        chance = random.Random(data.draw(st.integers(0, 10**6)))
        for part in range(data.draw(st.integers(1, 3))):
            put(session, tenant, [
                entry(
                    f"{part}-{i}", f"{chance.randrange(10**6) / 10**4:f}",
                    NOVEMBER.start_at + timedelta(seconds=chance.randrange(40 * 86_400)),
                    metric=chance.choice(names), resource=chance.choice([None, "a", "b", "ü"]),
                )
                for i in range(chance.randrange(30))
            ], now=now)  # fmt: skip
            with unit_of_work(session):
                fold.fold(session, tenant, now=now, limit=data.draw(st.integers(1, 60)))
        shown = usage.of_customer(session, tenant, "cus_1", NOVEMBER, now=now)
        session.rollback()
        records = written(step, fixed(step, tenant))
        totals = {each["metric"]: each["value"] for each in of_type(records, "total")}
        assert totals == {
            metric.metric: f"{metric.value.normalize():f}" for metric in shown.metrics
        }
        assert check(seal(records, data.draw(st.sampled_from(["ndjson", "csv"])))).problems == []


def fill(session: Session, tenant: str, metric: str) -> None:
    """Complete a freshly switched-on unique count."""
    more = True
    while more:
        with unit_of_work(session):
            more = unique.fill(session, tenant, metric, now=LATER)


@settings(
    max_examples=10, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(data=st.data())
def test_the_totals_are_those_shown_whatever_was_decided(
    engine: Engine, data: st.DataObject
) -> None:
    """Voids, approved late usage and deltas, by each aggregation."""
    step, now = step_of(engine), datetime(2026, 11, 20, tzinfo=UTC)
    names = ("sum", "count", "max", "last", "unique")
    with Session(engine) as session:
        tenant = f"p-{random.SystemRandom().getrandbits(64):016x}"
        with unit_of_work(session):
            tenants.create(session, tenant, mode="test", now=now)
            for name in names:
                changes = {"aggregation": name, "late_policy": "age", "lateness_seconds": 3600}
                metrics.edit(session, tenant, name, changes, now=now)
        for name in names:
            fill(session, tenant, name)
        chance = random.Random(data.draw(st.integers(0, 10**6)))
        keys = []
        for i in range(chance.randrange(5, 40)):
            at = NOVEMBER.start_at + timedelta(seconds=chance.randrange(19 * 86_400))
            keys.append(f"k{i}")
            late = chance.choice([timedelta(minutes=1), timedelta(hours=3)])
            put(session, tenant, [
                entry(keys[-1], chance.randrange(1, 100), at, metric=chance.choice(names),
                      resource=chance.choice([None, "a", "b"]))
            ], now=at + late)  # fmt: skip
        fold_all(session, tenant)
        for adjustment in list(session.query(Adjustment).filter_by(tenant_id=tenant)):
            if chance.random() < 0.6:
                # What would make a total less than nothing is refused.
                with suppress(ConflictError), unit_of_work(session):
                    deciding.approve(
                        session, tenant, adjustment.adjustment_id, actor="ann", now=now,
                        disposition=chance.choice(["apply", "carry_forward", "credit_note"]),
                    )  # fmt: skip
        for name in names:
            with unit_of_work(session):
                wanted = adjustments.Wanted(
                    "cus_1", name, Decimal(chance.randrange(1, 9)), "credit"
                )
                name_of = adjustments.id_of(None)
                made = adjustments.create(session, tenant, name_of, wanted, actor="ann", now=now)
                if chance.random() < 0.5:
                    deciding.approve(session, tenant, made.adjustment_id, actor="ann", now=now)
        for key in chance.sample(keys, 3):
            with unit_of_work(session):
                voids.void(session, tenant, key, reason="wrong", actor="ann", now=now)
        shown = usage.of_customer(session, tenant, "cus_1", NOVEMBER, now=now)
        session.rollback()
        records = written(step, fixed(step, tenant, now=now))
        totals = {each["metric"]: each["value"] for each in of_type(records, "total")}
        assert totals == {metric.metric: plain(metric.value) for metric in shown.metrics}
        assert check(seal(records)).problems == []
        with step() as one:
            found = one.query(Event).filter_by(tenant_id=tenant).all()
            listed = standing.of_events(one, tenant, found)
        assert {each["id"]: each["status"] for each in of_type(records, "event")} == listed
        for key in keys:
            walked = trail.walk(session, tenant, key, Calling(None, {}), now=now)
            assert walked.status == listed[key]
            session.rollback()


def test_an_incomplete_unique_count_is_not_stated(
    session: Session, step: Step, tenant: str
) -> None:
    put(session, tenant, [entry("a", 1, resource="r")], now=LATER)
    fold_all(session, tenant)
    with unit_of_work(session):
        metrics.edit(session, tenant, "api_calls", {"aggregation": "unique"}, now=LATER)
    with pytest.raises(ConflictError, match="still being completed"):
        fixed(step, tenant)
    fill(session, tenant, "api_calls")
    [total] = of_type(written(step, fixed(step, tenant)), "total")
    assert (total["aggregation"], total["value"]) == ("unique", "1")


def test_a_row_is_told_by_its_transaction_also_where_its_number_began_anew() -> None:
    wide = 1 << 32
    moment = Moment(LATER, wide + 5, wide + 9, frozenset({wide + 7}))
    shown = {xid: moment.shows(LATER, xid % wide) for xid in range(wide - 3, wide + 12)}
    assert [xid - wide for xid, is_shown in shown.items() if is_shown] == [
        -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 8,
    ]  # fmt: skip
    assert moment.shows(LATER - timedelta(hours=2), 11)
