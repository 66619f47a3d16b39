"""A line's cost day by day: against Postgres by example, and by property that nothing is lost."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.billing import days, projection
from metering.billing.amounts import of_line
from metering.billing.days import DayUse, LineDays, Used
from metering.billing.prices import InForce
from metering.billing.projection import Line
from metering.catalog import mappings, metrics
from metering.catalog.models import BillingPeriod
from metering.catalog.period import Span
from metering.counters import adjustments, deciding, voids
from metering.counters.usage import MetricUsage
from metering.database import unit_of_work
from metering.ledger.models import Event
from pricing.price import Price, from_config
from pricing.projection import exactly
from tests.pricing.strategies import QUANTITIES, prices
from tests.support import entry, fold_all, put

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 6, 15, 30, tzinfo=UTC)
ANCHORED = Span(
    datetime(2026, 10, 15, 10, 23, 45, tzinfo=UTC), datetime(2026, 11, 15, 10, 23, 45, tzinfo=UTC)
)


def at(day: int, hour: int = 12, minute: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


def used(session: Session, tenant: str, *events: tuple[datetime, object], **of: str) -> None:
    """Count events of the metric `of` names; they were recorded as they occurred."""
    for when, quantity in events:
        name = f"{of}/{when}/{quantity}"
        put(session, tenant, [entry(name, quantity, when, **of)], now=when)
    fold_all(session, tenant)


def read(session: Session, tenant: str, metric: str, aggregation: str, **more: object) -> None:
    with unit_of_work(session):
        changes = {"aggregation": aggregation} | more
        metrics.edit(session, tenant, metric, changes, now=NOVEMBER)


def priced(session: Session, tenant: str, metric: str, **price: object) -> None:
    made = from_config({"model": "per_unit", "currency": "usd"} | price)
    wanted = {"metric": metric, "effective_from": NOVEMBER, "price": made, "currency": "usd"}
    with unit_of_work(session):
        mappings.create(session, tenant, mappings.id_of(None), wanted, now=NOVEMBER)


def found(session: Session, tenant: str, *, now: datetime = NOW) -> dict[str, LineDays]:
    """By metric, each checked to add up to its line."""
    projected = projection.project(session, tenant, "cus_1", None, now=now)
    lines = days.of_projection(session, tenant, "cus_1", projected, now=now)
    session.rollback()
    assert [each.line for each in lines] == projected.lines
    for each in lines:
        check(each.line, each.days)
    return {each.line.usage.metric: each for each in lines}


def check(line: Line, found: object) -> None:
    """Days tile the period from its start on, and add up to what the line says."""
    assert isinstance(found, list | tuple)
    if line.usage.aggregation == "unique":
        assert found == ()
        return
    assert found[0].start_at == line.usage.span.start_at
    assert found[-1].end_at <= line.usage.span.end_at
    for day, following in pairwise(found):
        assert day.end_at == following.start_at
        assert following.start_at.timestamp() % 86400 == 0
    quantities = [day.quantity for day in found]
    match line.usage.aggregation:
        case "max":
            assert max(quantities) == line.usage.value
        case "last":
            assert quantities[-1] == line.usage.value
        case _:
            assert sum(quantities, Decimal(0)) == line.usage.value
    amounts = [day.amount for day in found]
    if line.amounts is None:
        assert set(amounts) == {None}
    else:
        assert sum(amounts) == line.amounts.current


def shown(of: LineDays) -> list[tuple[int, int]]:
    """Of each day its quantity and its amount."""
    return [(int(day.quantity), day.amount or 0) for day in of.days]


def test_days_of_a_sum_and_of_a_count(session: Session, tenant: str) -> None:
    events = [(at(1), 10), (at(1, 23, 59), 5), (at(3), 85), (at(6), 1)]
    for metric, aggregation in (("a", "sum"), ("b", "count")):
        used(session, tenant, *events, metric=metric)
        read(session, tenant, metric, aggregation)
    tiers = [{"upTo": 50, "unitPrice": "1"}, {"upTo": None, "unitPrice": "0.5"}]
    priced(session, tenant, "a", model="graduated", tiers=tiers)
    priced(session, tenant, "b", unitPrice="2")
    of = found(session, tenant)
    assert shown(of["a"]) == [(15, 1500), (0, 0), (85, 6000), (0, 0), (0, 0), (1, 50)]
    assert shown(of["b"]) == [(2, 400), (0, 0), (1, 200), (0, 0), (0, 0), (1, 200)]


def test_days_of_a_maximum_cost_only_where_it_rises(session: Session, tenant: str) -> None:
    used(session, tenant, (at(1), 3), (at(2), 2), (at(4), 7), (at(4, 13), 6), (at(5), 7))
    read(session, tenant, "api_calls", "max")
    priced(session, tenant, "api_calls", unitPrice="1")
    of = found(session, tenant)["api_calls"]
    assert shown(of) == [(3, 300), (2, 0), (0, 0), (7, 400), (7, 0), (0, 0)]


def test_a_level_stands_until_another_is_reported(session: Session, tenant: str) -> None:
    used(session, tenant, (at(2), 3), (at(2, 13), 8), (at(4), 5))
    read(session, tenant, "api_calls", "last")
    priced(session, tenant, "api_calls", unitPrice="1")
    of = found(session, tenant)["api_calls"]
    assert shown(of) == [(0, 0), (8, 800), (8, 0), (5, -300), (5, 0), (5, 0)]


def test_a_level_that_is_carried_over_costs_from_the_first_day_on(
    session: Session, tenant: str
) -> None:
    used(session, tenant, (datetime(2026, 9, 30, tzinfo=UTC), 4))
    read(session, tenant, "api_calls", "last", carry_over=True)
    priced(session, tenant, "api_calls", unitPrice="1")
    [line] = found(session, tenant).values()
    assert line.line.usage.is_carried
    assert shown(line) == [(4, 400), *[(4, 0)] * 5]
    used(session, tenant, (at(3), 9))
    [line] = found(session, tenant).values()
    assert not line.line.usage.is_carried
    assert shown(line) == [(4, 400), (4, 0), (9, 500), *[(9, 0)] * 3]
    # Another reading of the same usage carries nothing.
    read(session, tenant, "api_calls", "max", carry_over=True)
    [line] = found(session, tenant).values()
    assert shown(line) == [(0, 0), (0, 0), (9, 900), *[(0, 0)] * 3]


def test_days_hold_what_was_taken_off_and_put_back(session: Session, tenant: str) -> None:
    """A credit lies on the day it is of, and days before it are what they were."""
    used(session, tenant, (at(1), 40), (at(3), 20), (at(5), 2))
    priced(session, tenant, "api_calls", unitPrice="1")
    adjust(session, tenant, -30, at(4))
    [line] = found(session, tenant, now=at(5)).values()
    assert line.line.usage.value == 32
    assert shown(line) == [(40, 4000), (0, 0), (20, 2000), (-30, -3000), (2, 200)]
    with unit_of_work(session):
        key = next(iter(session.scalars(select(Event.idempotency_key).where(
            Event.tenant_id == tenant, Event.quantity == 40))))  # fmt: skip
        voids.void(session, tenant, key, reason="twice", actor="me", now=NOW)
    [line] = found(session, tenant, now=at(5)).values()
    # The total is -8, and costs nothing.
    assert shown(line) == [(0, 0), (0, 0), (20, 2000), (-30, -2000), (2, 0)]


@pytest.mark.parametrize("delta", [-2, 3])
def test_an_adjustment_of_a_maximum_is_no_days(session: Session, tenant: str, delta: int) -> None:
    used(session, tenant, (at(1), 3), (at(4), 7))
    read(session, tenant, "api_calls", "max")
    priced(session, tenant, "api_calls", unitPrice="1")
    adjust(session, tenant, delta, at(4))
    projected = projection.project(session, tenant, "cus_1", None, now=at(5))
    [line] = days.of_projection(session, tenant, "cus_1", projected, now=at(5))
    assert shown(line) == [(3, 300), (0, 0), (0, 0), (7, 400), (0, delta * 100)]


def test_an_adjustment_is_no_pace(session: Session, tenant: str) -> None:
    used(session, tenant, (at(1, 0), 30), (at(3), 30))
    adjust(session, tenant, -20, at(4))
    now = datetime(2026, 11, 16, tzinfo=UTC)
    [line] = projection.project(session, tenant, "cus_1", None, now=now).lines
    assert (line.usage.value, line.projected.expected) == (40, 100)


def adjust(session: Session, tenant: str, delta: int, when: datetime) -> None:
    """Approve a delta while that hour was the last."""
    by = {"actor": "me", "now": when}
    wanted = adjustments.Wanted("cus_1", "api_calls", Decimal(delta), "credit", when)
    with unit_of_work(session):
        made = adjustments.create(session, tenant, adjustments.id_of(None), wanted, **by)  # type: ignore[arg-type]
        deciding.approve(session, tenant, made.adjustment_id, **by)  # type: ignore[arg-type]


def test_unique_counts_have_no_days(session: Session, tenant: str) -> None:
    read(session, tenant, "api_calls", "unique")
    put(session, tenant, [entry("a", 1, at(2), resource="r1")], now=at(2))
    fold_all(session, tenant)
    priced(session, tenant, "api_calls", unitPrice="1")
    [line] = found(session, tenant).values()
    assert line.line.usage.value == 1
    assert line.days == ()


def anchored(session: Session, tenant: str, metric: str) -> None:
    with unit_of_work(session):
        session.add(
            BillingPeriod(
                tenant_id=tenant, customer_ref="cus_1", metric=metric, item_id="si_1", mode="test",
                start_at=ANCHORED.start_at, end_at=ANCHORED.end_at,
            )
        )  # fmt: skip


def test_days_are_clipped_where_the_period_begins_and_ends(session: Session, tenant: str) -> None:
    anchored(session, tenant, "api_calls")
    instants = [
        ANCHORED.start_at - timedelta(seconds=1),
        ANCHORED.start_at,
        datetime(2026, 10, 15, 23, 59, 59, tzinfo=UTC),
        ANCHORED.end_at - timedelta(seconds=1),
        ANCHORED.end_at,
    ]
    used(session, tenant, *((when, 10**i) for i, when in enumerate(instants)))
    priced(session, tenant, "api_calls", unitPrice="1")
    now = ANCHORED.end_at - timedelta(milliseconds=1)
    [line] = found(session, tenant, now=now).values()
    assert len(line.days) == 32
    assert line.days[0].end_at == datetime(2026, 10, 16, tzinfo=UTC)
    assert line.days[-1].start_at == datetime(2026, 11, 15, tzinfo=UTC)
    assert line.days[-1].end_at == ANCHORED.end_at
    quantities = shown(line)
    assert (quantities[0], quantities[-1]) == ((110, 11000), (1000, 100000))
    assert set(quantities[1:-1]) == {(0, 0)}


def test_each_metric_has_the_days_of_its_own_period(session: Session, tenant: str) -> None:
    anchored(session, tenant, "b")
    used(session, tenant, (at(2), 3), metric="a")
    used(session, tenant, (at(2), 3), (datetime(2026, 10, 20, tzinfo=UTC), 4), metric="b")
    used(session, tenant, (at(2), 99), metric="a", customer="cus_2")
    of = found(session, tenant)
    assert [day.quantity for day in of["a"].days] == [0, 3, 0, 0, 0, 0]
    assert len(of["b"].days) == 17 + 6
    by_day = {day.start_at.date(): day.quantity for day in of["b"].days if day.quantity}
    assert by_day == {date(2026, 10, 20): 4, date(2026, 11, 2): 3}


def test_without_usage_there_are_no_lines(session: Session, tenant: str) -> None:
    assert found(session, tenant) == {}


def test_what_was_only_set_aside_costs_its_flat_fee_on_the_first_day(
    session: Session, tenant: str
) -> None:
    read(session, tenant, "api_calls", "sum", late_policy="age", lateness_seconds=0)
    put(session, tenant, [entry("late", 5, at(2))], now=at(3))
    fold_all(session, tenant)
    priced(session, tenant, "api_calls", model="flat", flatPrice="7")
    [line] = found(session, tenant).values()
    assert (line.line.usage.set_aside, shown(line)) == (1, [(0, 700), *[(0, 0)] * 5])


def test_a_late_event_changes_the_day_it_occurred_on_and_the_cost_of_the_later_ones(
    session: Session, tenant: str
) -> None:
    used(session, tenant, (at(1), 40), (at(3), 20))
    tiers = [{"upTo": 50, "unitPrice": "1"}, {"upTo": None, "unitPrice": "0.5"}]
    priced(session, tenant, "api_calls", model="graduated", tiers=tiers)
    [line] = found(session, tenant).values()
    assert shown(line)[:3] == [(40, 4000), (0, 0), (20, 1500)]
    put(session, tenant, [entry("late", 10, at(2))], now=NOW)
    fold_all(session, tenant)
    [line] = found(session, tenant).values()
    assert shown(line)[:3] == [(40, 4000), (10, 1000), (20, 1000)]


def test_usage_ahead_of_the_clock_has_its_day(session: Session, tenant: str) -> None:
    used(session, tenant, (at(7, 0, 20), 5))
    [line] = found(session, tenant, now=at(6, 23, 40)).values()
    assert [int(day.quantity) for day in line.days] == [0] * 6 + [5]


@pytest.mark.parametrize("aggregation", ["sum", "max", "last"])
def test_what_is_counted_after_the_projection_is_not_in_its_days(
    session: Session, tenant: str, aggregation: str
) -> None:
    used(session, tenant, (at(1), 4), (at(6), 6))
    read(session, tenant, "api_calls", aggregation)
    priced(session, tenant, "api_calls", unitPrice="1")
    projected = projection.project(session, tenant, "cus_1", None, now=NOW)
    session.rollback()
    used(session, tenant, (at(2), 3), (at(6, 13), 50))
    [line] = days.of_projection(session, tenant, "cus_1", projected, now=NOW)
    check(line.line, line.days)


@given(
    prices(),
    st.sampled_from(["sum", "count", "max", "last"]),
    st.dictionaries(st.integers(0, 39), QUANTITIES),
    st.integers(0, 60 * 86400).map(lambda seconds: NOVEMBER + timedelta(seconds=seconds)),
    st.integers(1, 40 * 86400).map(lambda seconds: timedelta(seconds=seconds)),
    st.floats(0, 1.1),
    st.none() | QUANTITIES,
)
def test_the_days_add_up_to_the_line(
    price: Price,
    aggregation: str,
    drawn: dict[int, Decimal],
    start_at: datetime,
    length: timedelta,
    elapsed: float,
    carried: Decimal | None,
) -> None:
    span = Span(start_at, start_at + length)
    midnight = start_at.replace(hour=0, minute=0, second=0, microsecond=0)
    by_day = {midnight + timedelta(days=n): quantity for n, quantity in drawn.items()}
    kept = Used(carried or Decimal(0), {at: q for at, q in by_day.items() if at < span.end_at})
    line = line_of(price, aggregation, span, value_of(aggregation, kept))
    found = days.spread(line, kept, start_at + length * elapsed)
    check(line, found)
    # Up to any day, the days are what the usage up to then costs.
    cost, until = 0, Used(kept.carried)
    for day in found:
        on = day.start_at.replace(hour=0, minute=0, second=0, microsecond=0)
        until.by_day |= {at: q for at, q in kept.by_day.items() if at == on}
        assert day.amount is not None
        cost += day.amount
        assert cost == price.amount(value_of(aggregation, until))
        assert day.start_at < day.end_at <= day.start_at + timedelta(days=1)


def value_of(aggregation: str, used: Used) -> Decimal:
    values = [quantity for _, quantity in sorted(used.by_day.items())]
    match aggregation:
        case "last":
            return values[-1] if values else used.carried
        case "max":
            return max(values, default=Decimal(0))
        case _:
            return sum(values, Decimal(0))


def line_of(price: Price, aggregation: str, span: Span, value: Decimal) -> Line:
    usage = MetricUsage(
        metric="api_calls", value=value, aggregation=aggregation, display_name=None, unit=None,
        lateness_seconds=0, span=span, closes_at=None, watermark=None, event_count=0, set_aside=0,
        unfolded=0, unique_complete=True, since_period=None, is_carried=False, sum_value=value,
        max_value=value, last_value=value, unique_count=0,
    )  # fmt: skip
    band = exactly(value)
    return Line(usage, band, "none", InForce(price), of_line(price, value, band))


def test_a_day_without_usage_costs_nothing_more() -> None:
    price = from_config({"model": "per_unit", "currency": "usd", "unitPrice": "1"})
    span = Span(NOVEMBER, NOVEMBER + timedelta(days=3))
    line = line_of(price, "sum", span, Decimal(2))
    found = days.spread(line, Used(by_day={NOVEMBER: Decimal(2)}), span.end_at)
    assert found[1] == DayUse(at(2, 0), at(3, 0), Decimal(0), 0)
