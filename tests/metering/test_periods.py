"""Counters follow their subscription's billing periods, whenever these become known or change."""

import random
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from metering.catalog import metrics
from metering.catalog.models import BillingPeriod
from metering.catalog.period import Span, span_at
from metering.catalog.schedules import PlannedPeriod
from metering.counters import fold, periods, rebuild, unique
from metering.counters.periods import Moved
from metering.database import unit_of_work
from metering.tenancy import tenants
from tests.metering.test_fold import BALANCE
from tests.support import counters, entry, fold_all, put, scalar


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def plan(*edges: str | datetime, item: str = "si_1") -> list[PlannedPeriod]:
    instants = [at(edge) if isinstance(edge, str) else edge for edge in edges]
    return [PlannedPeriod(a, b, item, "test") for a, b in pairwise(instants)]


def replan(
    session: Session,
    tenant: str,
    wanted: Sequence[PlannedPeriod],
    now: str = "2026-11-20T00:00:00",
    *,
    customer: str = "cus_1",
) -> Moved | None:
    with unit_of_work(session):
        return periods.replan(session, tenant, customer, "api_calls", wanted, now=at(now))


def spans(session: Session, tenant: str, *, customer: str = "cus_1") -> list[Span]:
    rows = session.scalars(
        select(BillingPeriod)
        .where(BillingPeriod.tenant_id == tenant, BillingPeriod.customer_ref == customer)
        .order_by(BillingPeriod.start_at)
    ).all()
    found = [Span(row.start_at.astimezone(UTC), row.end_at.astimezone(UTC)) for row in rows]
    session.rollback()
    return found


def segments(session: Session, tenant: str) -> dict[datetime, Decimal]:
    rows = session.execute(
        text("SELECT segment_start, sum_value FROM segments WHERE tenant_id = :t"), {"t": tenant}
    ).all()
    session.rollback()
    return {row[0].astimezone(UTC): row[1] for row in rows}


def sums(session: Session, tenant: str) -> dict[datetime, Decimal]:
    """Sums of the one metric of the one customer, by the start of the period."""
    return {key[2]: values[0] for key, values in counters(session, tenant).items()}


ANCHORED = ("2026-10-15T10:23:45", "2026-11-15T10:23:45", "2026-12-15T10:23:45")
# In Kathmandu (UTC+5:45), where the subscription was made, the 15th at 16:08:45.
IN_KATHMANDU = {
    "old": "2026-11-15T16:08:44.999999+05:45",
    "new": "2026-11-15T16:08:45+05:45",
    "before": "2026-11-15T15:45:00+05:45",
    "after": "2026-11-15T16:44:59+05:45",
}


def test_the_hour_that_holds_the_boundary_is_split_exactly(session: Session, tenant: str) -> None:
    """A subscription anchored on the 15th at 10:23:45: its periods are Stripe's, to the second."""
    replan(session, tenant, plan(*ANCHORED))
    for i, ts in enumerate(IN_KATHMANDU.values()):
        put(session, tenant, [entry(f"e{i}", 10**i, ts)])
    fold_all(session, tenant)
    assert sums(session, tenant) == {at(ANCHORED[0]): 101, at(ANCHORED[1]): 1010}
    assert segments(session, tenant) == {
        at("2026-11-15T10:00:00"): 101,
        at("2026-11-15T10:23:45"): 1010,
    }
    calendar = "SELECT count(*) FROM periods WHERE tenant_id = :t"
    assert scalar(session, calendar, t=tenant) == 0


def test_counters_move_when_a_subscription_becomes_known(session: Session, tenant: str) -> None:
    """First events come before the subscription: later they are where they would have been."""
    put(session, tenant, [entry(f"e{i}", 10**i, ts) for i, ts in enumerate(IN_KATHMANDU.values())])
    put(session, tenant, [entry("first", 5, "2026-10-02T00:00:00Z", resource="r1")])
    put(session, tenant, [entry("last", 7, "2026-12-20T00:00:00Z", resource="r1")])
    fold_all(session, tenant)
    assert sums(session, tenant) == {
        at("2026-10-01"): 5,
        at("2026-11-01"): 1111,
        at("2026-12-01"): 7,
    }
    moved = replan(session, tenant, plan(*ANCHORED))
    assert moved == Moved(Span(at("2026-10-01"), at("2027-01-01")))
    assert sums(session, tenant) == {
        at("2026-10-01"): 5,
        at(ANCHORED[0]): 101,
        at(ANCHORED[1]): 1010,
        at(ANCHORED[2]): 7,
    }
    assert segments(session, tenant) == {
        at("2026-10-02"): 5,
        at("2026-11-15T10:00:00"): 101,
        at("2026-11-15T10:23:45"): 1010,
        at("2026-12-20"): 7,
    }
    assert replan(session, tenant, plan(*ANCHORED)) is None
    ends = "SELECT array_agg(period_end ORDER BY period_end) FROM counters WHERE tenant_id = :t"
    assert [end.astimezone(UTC) for end in scalar(session, ends, t=tenant)] == [
        *map(at, ANCHORED),
        at("2027-01-01"),
    ]
    put(session, tenant, [entry("more", 1, "2026-10-03T00:00:00Z")])
    fold_all(session, tenant)
    assert sums(session, tenant)[at("2026-10-01")] == 6


def test_a_closed_period_and_its_counter_stay_as_they_are(session: Session, tenant: str) -> None:
    replan(session, tenant, plan(*ANCHORED))
    put(session, tenant, [entry("a", 1, "2026-11-01T00:00:00Z")])
    put(session, tenant, [entry("b", 2, "2026-11-20T00:00:00Z")])
    put(session, tenant, [entry("c", 4, "2026-10-02T00:00:00Z")])
    fold_all(session, tenant)
    _close(session, tenant, ANCHORED[0])
    before = counters(session, tenant)
    moved = replan(session, tenant, plan("2026-10-01T12:00:00", "2026-11-20T00:00:00", item="si_2"))
    assert moved is not None
    assert spans(session, tenant) == [
        Span(at("2026-10-01T12:00:00"), at(ANCHORED[0])),
        Span(at(ANCHORED[0]), at(ANCHORED[1])),
        Span(at(ANCHORED[1]), at("2026-11-20T00:00:00")),
    ]
    key = ("cus_1", "api_calls", at(ANCHORED[0]))
    assert counters(session, tenant)[key] == before[key]
    assert sums(session, tenant) == {
        at("2026-10-01T12:00:00"): 4,
        at(ANCHORED[0]): 1,
        at("2026-11-20"): 2,
    }
    put(session, tenant, [entry("too_late", 8, "2026-11-02T00:00:00Z")])
    fold_all(session, tenant)
    assert counters(session, tenant)[key] == before[key]
    aside = "SELECT reason FROM set_aside WHERE tenant_id = :t AND period_start = :p"
    assert scalar(session, aside, t=tenant, p=at(ANCHORED[0])) == "period_closed"


def test_an_earlier_items_periods_stay_history(session: Session, tenant: str) -> None:
    replan(session, tenant, plan(*ANCHORED))
    replan(session, tenant, plan("2026-12-01T00:00:00", "2027-01-01T00:00:00", item="si_2"))
    assert spans(session, tenant) == [
        Span(at(ANCHORED[0]), at(ANCHORED[1])),
        Span(at(ANCHORED[1]), at("2026-12-01")),
        Span(at("2026-12-01"), at("2027-01-01")),
    ]
    # Nothing is wanted any more: from now on by the month.
    replan(session, tenant, [], "2026-12-10T00:00:00.5")
    assert spans(session, tenant)[-1] == Span(at("2026-12-01"), at("2026-12-10"))
    assert replan(session, tenant, [], "2026-12-11T00:00:00") is None


def test_what_is_known_of_a_period_stays_while_its_end_does(session: Session, tenant: str) -> None:
    replan(session, tenant, plan(*ANCHORED))
    with unit_of_work(session):
        session.execute(
            text("UPDATE billing_periods SET closes_at = end_at, invoice_id = 'in_1'"
                 " WHERE tenant_id = :t"), {"t": tenant},
        )  # fmt: skip
    assert replan(session, tenant, plan(*ANCHORED, item="si_2")) is None
    replan(session, tenant, plan(ANCHORED[0], ANCHORED[1], "2026-11-18T00:00:00", item="si_2"))
    rows = session.execute(
        text("SELECT item_id, closes_at IS NULL, invoice_id FROM billing_periods"
             " WHERE tenant_id = :t ORDER BY start_at"), {"t": tenant},
    ).all()  # fmt: skip
    assert [tuple(row) for row in rows] == [("si_2", False, "in_1"), ("si_2", True, "in_1")]


def test_late_events_are_named_with_the_period_they_would_be_in(
    session: Session, tenant: str
) -> None:
    with unit_of_work(session):
        changes = {"late_policy": "age", "lateness_seconds": 60}
        metrics.edit(session, tenant, "api_calls", changes, now=at("2026-11-20"))
    put(session, tenant, [entry("old", 1, "2026-11-16T00:00:00Z")], now=at("2026-11-20"))
    fold_all(session, tenant)
    aside = "SELECT period_start FROM set_aside WHERE tenant_id = :t"
    assert scalar(session, aside, t=tenant) == at("2026-11-01")
    replan(session, tenant, plan(*ANCHORED))
    assert scalar(session, aside, t=tenant) == at(ANCHORED[1])


def test_reaggregations_and_unique_counts_move_too(session: Session, tenant: str) -> None:
    with unit_of_work(session):
        metrics.edit(session, tenant, "api_calls", {"unique_enabled": True}, now=at("2026-11-20"))
    for key, ts, resource in (
        ("a", "2026-11-14T00:00:00Z", "r1"),
        ("b", "2026-11-13T00:00:00Z", "r2"),
        ("c", "2026-11-20T00:00:00Z", "r1"),
        ("d", "2026-11-19T00:00:00Z", "r1"),
    ):
        put(session, tenant, [entry(key, 1, ts, resource=resource)])
        fold_all(session, tenant)
    replan(session, tenant, plan(*ANCHORED))
    assert {key[2]: values[4] for key, values in counters(session, tenant).items()} == {
        at(ANCHORED[0]): 2,
        at(ANCHORED[1]): 1,
    }
    behind = "SELECT sum(reaggregations) FROM counters WHERE tenant_id = :t"
    assert scalar(session, behind, t=tenant) == 2


def _close(session: Session, tenant: str, start: str | datetime) -> None:
    start_at = at(start) if isinstance(start, str) else start
    with unit_of_work(session):
        session.execute(
            text("UPDATE billing_periods SET closes_at = end_at, closed_at = end_at"
                 " WHERE tenant_id = :t AND start_at = :s"), {"t": tenant, "s": start_at},
        )  # fmt: skip


Event = tuple[str, datetime, str, Decimal, str | None]


def _history(seed: int, size: int) -> list[Event]:
    """Events in three months, many of them at boundaries and in their hours."""
    chance = random.Random(seed)
    edges = [at("2026-11-15T10:23:45"), at("2026-10-31T00:00:00"), at("2026-11-01T00:00:00")]
    near = [edge + timedelta(microseconds=1) * i for edge in edges for i in (-1, 0, 1)]
    near += [edge + timedelta(minutes=chance.randrange(-60, 60)) for edge in edges]
    whenever = at("2026-10-01T00:00:00")
    return [
        (
            f"cus_{chance.randrange(2)}",
            chance.choice([*near, whenever + timedelta(seconds=chance.randrange(92 * 86_400))]),
            f"k{i:04d}",
            Decimal(chance.randrange(10**8)).scaleb(-chance.randrange(12)),
            chance.choice([None, "r1", "r2", "r3"]),
        )
        for i in range(size)
    ]


def _computed(session: Session, tenant: str, events: Sequence[Event]) -> dict[Any, Any]:
    """What the counters of these events must be in the periods of now, in no SQL."""
    rows = {customer: spans(session, tenant, customer=customer) for customer in ("cus_0", "cus_1")}
    groups: dict[Any, list[Event]] = {}
    for event in events:
        span = span_at(rows[event[0]], event[1])
        groups.setdefault((event[0], span.start_at, span.end_at), []).append(event)
    return {
        group: (
            sum((e[3] for e in members), Decimal(0)),
            len(members),
            max(e[3] for e in members),
            max(members, key=lambda e: (e[1], e[2].encode()))[3],
            len({e[4] for e in members if e[4] is not None}),
            max(e[1] for e in members),
        )
        for group, members in groups.items()
    }


def _counted(session: Session, tenant: str) -> dict[Any, Any]:
    rows = session.execute(
        text(
            "SELECT customer_ref, period_start, period_end, sum_value, event_count, max_value,"
            " last_value, unique_count, watermark FROM counters WHERE tenant_id = :t"
        ),
        {"t": tenant},
    ).all()
    session.rollback()
    return {(r[0], r[1].astimezone(UTC), r[2].astimezone(UTC)): tuple(r[3:]) for r in rows}


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_counters_are_the_ledgers_whatever_is_planned_between_folds(
    engine: Engine, data: st.DataObject
) -> None:
    """Any events, folds of any size, and any plans, closings and crashes between them."""
    events = _history(data.draw(st.integers(0, 10**6)), data.draw(st.integers(1, 60)))
    with Session(engine) as session:
        tenant = f"plan-{uuid.uuid4()}"
        with unit_of_work(session):
            tenants.create(session, tenant, mode="test", now=at("2026-10-01"))
            changes = {
                "unique_enabled": True,
                "late_policy": "age",
                "lateness_seconds": 40 * 86_400,
            }
            metrics.edit(session, tenant, "api_calls", changes, now=at("2026-10-01"))
        remaining = list(events)
        while remaining:
            count = data.draw(st.integers(1, len(remaining)))
            part, remaining = remaining[:count], remaining[count:]
            batch = [entry(k, f"{q:f}", t, customer=c, resource=r) for c, t, k, q, r in part]
            arrival = at(data.draw(st.sampled_from(["2026-11-20", "2026-12-15"])))
            put(session, tenant, batch, now=arrival)
            for step in data.draw(st.lists(st.sampled_from(["fold", "plan", "close"]), max_size=4)):
                _do(session, tenant, step, data)
                assert scalar(session, BALANCE, t=tenant) == 0
        fold_all(session, tenant, limit=data.draw(st.integers(1, 100)))
        _do(session, tenant, "plan", data)
        aside = set(
            session.execute(
                text("SELECT idempotency_key FROM set_aside WHERE tenant_id = :t"), {"t": tenant}
            ).scalars()
        )
        counted = _counted(session, tenant)
        assert counted == _computed(session, tenant, [e for e in events if e[2] not in aside])
        assert scalar(session, BALANCE, t=tenant) == 0
        assert _set_aside_lies_where_it_says(session, tenant, events)
        # And what rebuilds counters finds nothing to mend, in segments neither.
        whole = Span(at("2026-09-01"), at("2027-02-01"))
        with unit_of_work(session):
            rebuilt = rebuild.rebuild(session, tenant, "api_calls", whole, now=at("2027-02-01"))
        assert rebuilt == rebuild.Rebuilt(segments=0, counters=0)
        _fill_again(session, tenant)
        assert _counted(session, tenant) == counted


def _do(session: Session, tenant: str, step: str, data: st.DataObject) -> None:
    customer = data.draw(st.sampled_from(["cus_0", "cus_1"]))
    if step == "close":
        found = spans(session, tenant, customer=customer)
        if found:
            chosen = data.draw(st.sampled_from(found))
            with unit_of_work(session):
                session.execute(
                    text("UPDATE billing_periods SET closes_at = end_at, closed_at = end_at"
                         " WHERE tenant_id = :t AND customer_ref = :c AND start_at = :s"),
                    {"t": tenant, "c": customer, "s": chosen.start_at},
                )  # fmt: skip
        return
    if step == "fold":
        fold.fold(session, tenant, now=at("2027-01-01"), limit=data.draw(st.integers(1, 70)))
    else:
        seconds = st.integers(0, 100 * 86_400)
        edges = st.sampled_from([at("2026-11-15T10:23:45"), at("2026-11-01T00:00:00")]) | (
            seconds.map(lambda s: at("2026-09-28T00:00:00") + timedelta(seconds=s))
        )
        wanted = plan(*sorted(data.draw(st.lists(edges, max_size=5, unique=True))))
        periods.replan(session, tenant, customer, "api_calls", wanted, now=at("2026-11-20"))
    if data.draw(st.booleans()):
        session.rollback()
    else:
        session.commit()


def _set_aside_lies_where_it_says(session: Session, tenant: str, events: Sequence[Event]) -> bool:
    when = {event[2]: (event[0], event[1]) for event in events}
    rows = session.execute(
        text("SELECT idempotency_key, period_start FROM set_aside WHERE tenant_id = :t"),
        {"t": tenant},
    ).all()
    return all(
        span_at(spans(session, tenant, customer=when[key][0]), when[key][1]).start_at == start
        for key, start in rows
    )


def _fill_again(session: Session, tenant: str) -> None:
    with unit_of_work(session):
        session.execute(
            text("UPDATE metrics SET unique_filled_to = '2000-01-01Z' WHERE tenant_id = :t"),
            {"t": tenant},
        )
    while True:
        with unit_of_work(session):
            if not unique.fill(session, tenant, "api_calls", now=datetime.now(UTC)):
                return
