"""Billing periods as Stripe reckons them, and which of them an instant lies in."""

import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from metering.catalog import period_sql
from metering.catalog.models import BillingPeriod
from metering.catalog.period import Span, calendar_month, span_at
from metering.catalog.schedules import AHEAD, planned


@dataclass
class Item:
    """A subscription item as far as its schedule goes."""

    started_at: datetime
    current_start: datetime
    current_end: datetime
    anchor_at: datetime
    interval: str = "month"
    interval_count: int = 1
    ended_at: datetime | None = None
    cancel_at: datetime | None = None
    trial_end: datetime | None = None
    item_id: str = "si_1"
    mode: str = "test"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def edges(item: Item) -> list[str]:
    """All starts and the last end, after a check that nothing gapes or overlaps."""
    found = planned(item)
    assert all(a.end_at == b.start_at for a, b in pairwise(found))
    instants = [*(p.start_at for p in found), *(p.end_at for p in found[-1:])]
    return [f"{instant:%Y-%m-%d %H:%M:%S}" for instant in instants]


FROM_JANUARY_31 = Item(
    started_at=at("2027-01-31 10:23:45"),
    current_start=at("2027-03-31 10:23:45"),
    current_end=at("2027-04-30 10:23:45"),
    anchor_at=at("2027-01-31 10:23:45"),
)


def test_an_anchor_on_the_31st_is_clipped_to_each_month() -> None:
    assert edges(FROM_JANUARY_31) == [
        "2027-01-31 10:23:45",
        "2027-02-28 10:23:45",
        "2027-03-31 10:23:45",
        "2027-04-30 10:23:45",
        "2027-05-31 10:23:45",
        "2027-06-30 10:23:45",
    ]


def test_an_anchor_wished_for_the_31st_but_made_in_february_returns_to_it() -> None:
    item = replace(FROM_JANUARY_31, started_at=at("2027-02-28 10:23:45"))
    item.anchor_at = item.started_at
    assert edges(item)[-3:] == ["2027-04-30 10:23:45", "2027-05-31 10:23:45", "2027-06-30 10:23:45"]


def test_a_leap_day_comes_back_every_fourth_year() -> None:
    item = Item(
        started_at=at("2024-02-29 00:00:00"),
        current_start=at("2025-02-28 00:00:00"),
        current_end=at("2026-02-28 00:00:00"),
        anchor_at=at("2024-02-29 00:00:00"),
        interval="year",
    )
    assert edges(item) == [
        "2024-02-29 00:00:00",
        "2025-02-28 00:00:00",
        "2026-02-28 00:00:00",
        "2027-02-28 00:00:00",
        "2028-02-29 00:00:00",
    ]


def test_a_trial_is_the_first_period_and_the_anchor_its_end() -> None:
    item = Item(
        started_at=at("2026-10-20 08:00:00"),
        current_start=at("2026-12-03 08:00:00"),
        current_end=at("2027-01-03 08:00:00"),
        anchor_at=at("2026-11-03 08:00:00"),
        trial_end=at("2026-11-03 08:00:00"),
    )
    assert edges(item)[:4] == [
        "2026-10-20 08:00:00",
        "2026-11-03 08:00:00",
        "2026-12-03 08:00:00",
        "2027-01-03 08:00:00",
    ]
    during = replace(item, current_start=item.started_at, current_end=at("2026-11-03 08:00:00"))
    assert edges(during)[:3] == edges(item)[:3]


def test_a_first_period_up_to_an_anchor_ahead_is_shorter() -> None:
    item = Item(
        started_at=at("2026-11-20 12:00:01"),
        current_start=at("2026-11-20 12:00:01"),
        current_end=at("2026-12-05 00:00:00"),
        anchor_at=at("2026-12-05 00:00:00"),
    )
    assert edges(item)[1:] == ["2026-12-05 00:00:00", "2027-01-05 00:00:00", "2027-02-05 00:00:00"]


def test_every_second_week_and_every_tenth_day() -> None:
    start = at("2026-11-02 00:00:00")
    for interval, count, days in (("week", 2, 14), ("day", 10, 10)):
        current = start + 3 * timedelta(days=days)
        item = Item(
            started_at=start,
            current_start=current,
            current_end=current + timedelta(days=days),
            anchor_at=start,
            interval=interval,
            interval_count=count,
        )
        lengths = {p.end_at - p.start_at for p in planned(item)}
        assert lengths == {timedelta(days=days)}
        assert len(planned(item)) == 3 + 1 + AHEAD


def test_a_cancellation_ends_the_period_of_then() -> None:
    ended = replace(FROM_JANUARY_31, ended_at=at("2027-04-02 00:00:00"))
    assert edges(ended)[-2:] == ["2027-03-31 10:23:45", "2027-04-02 00:00:00"]
    at_once = replace(
        FROM_JANUARY_31,
        current_start=FROM_JANUARY_31.started_at,
        current_end=at("2027-02-28 10:23:45"),
        ended_at=FROM_JANUARY_31.started_at,
    )
    assert planned(at_once) == []


def test_no_period_begins_after_a_cancellation_that_is_planned() -> None:
    at_end = replace(FROM_JANUARY_31, cancel_at=FROM_JANUARY_31.current_end)
    assert edges(at_end)[-1] == "2027-04-30 10:23:45"
    later = replace(FROM_JANUARY_31, cancel_at=at("2027-05-10 00:00:00"))
    assert edges(later)[-2:] == ["2027-04-30 10:23:45", "2027-05-10 00:00:00"]
    within = replace(FROM_JANUARY_31, cancel_at=at("2027-04-10 00:00:00"))
    assert edges(within)[-2:] == ["2027-03-31 10:23:45", "2027-04-30 10:23:45"]


def test_an_interval_that_stripe_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="fortnight"):
        planned(replace(FROM_JANUARY_31, interval="fortnight"))


INSTANTS = st.integers(0, 10 * 366 * 86_400).map(
    lambda seconds: at("2020-01-01 00:00:00") + timedelta(seconds=seconds)
)


@given(
    anchor=INSTANTS | st.sampled_from([at("2024-02-29 23:59:59"), at("2023-01-31 10:23:45")]),
    before=st.timedeltas(timedelta(0), timedelta(days=800)),
    beyond=st.timedeltas(timedelta(0), timedelta(days=800)),
    interval=st.sampled_from(["day", "week", "month", "year"]),
    count=st.integers(1, 12),
    trial=st.none() | st.timedeltas(timedelta(days=1), timedelta(days=90)),
    ended=st.none() | st.floats(0, 1),
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_periods_tile_and_the_current_one_is_stripes(
    anchor: datetime,
    before: timedelta,
    beyond: timedelta,
    interval: str,
    count: int,
    trial: timedelta | None,
    ended: float | None,
) -> None:
    """Whatever the anchor: walking it forwards from another period gives the same periods."""
    first = Item(
        started_at=(anchor - before).replace(microsecond=0),
        current_start=anchor,
        current_end=anchor + timedelta(seconds=1),
        anchor_at=anchor,
        interval=interval,
        interval_count=count,
    )
    # Stripe's current period is one of the anchor's: the one that lies `beyond` ahead.
    current = [anchor, planned(first)[-AHEAD].end_at]
    while current[1] <= anchor + beyond:
        step = replace(first, current_start=current[0], current_end=current[1])
        current = [current[1], planned(step)[-AHEAD].end_at]
    item = replace(first, current_start=current[0], current_end=current[1])
    if trial is not None:
        item.trial_end = item.started_at + trial
    if ended is not None:
        item.ended_at = item.current_start + ended * (item.current_end - item.current_start)
    found = planned(item)
    assert all(a.end_at == b.start_at for a, b in pairwise(found))
    assert all(p.start_at < p.end_at for p in found)
    if found:
        assert found[0].start_at == min(item.started_at, item.current_start)
    if ended is None:
        position = len(found) - AHEAD - 1
        assert (found[position].start_at, found[position].end_at) == tuple(current)
        longest = timedelta(days={"day": 1, "week": 7, "month": 31, "year": 366}[interval] * count)
        assert all(p.end_at - p.start_at <= longest for p in found if p.end_at != item.trial_end)
    elif found:
        assert item.ended_at is not None
        assert found[-1].end_at == max(item.ended_at, found[-1].start_at)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    cuts=st.lists(INSTANTS, min_size=2, max_size=12, unique=True).map(sorted),
    kept=st.lists(st.booleans(), min_size=12, max_size=12),
    asked=st.lists(INSTANTS, max_size=6),
)
def test_statements_draw_the_same_periods(
    engine: Engine, cuts: list[datetime], kept: list[bool], asked: list[datetime]
) -> None:
    """Rows with gaps between them: inside, before, after, and on each of their edges."""
    spans = [Span(a, b) for (a, b), keep in zip(pairwise(cuts), kept, strict=False) if keep]
    tenant = f"periods-{uuid.uuid4()}"
    with Session(engine) as session:
        for span in spans:
            session.add(
                BillingPeriod(
                    tenant_id=tenant,
                    customer_ref="cus_1",
                    metric="m",
                    start_at=span.start_at,
                    end_at=span.end_at,
                    mode="test",
                    item_id="si_1",
                )
            )
        session.flush()
        just = timedelta(microseconds=1)
        instants = [*asked, *cuts, *(cut - just for cut in cuts)]
        rows = session.connection().exec_driver_sql(
            f"""
            WITH asked AS MATERIALIZED (
                SELECT instant, {period_sql.begun("'cus_1'", "'m'", "instant")} AS begun
                FROM unnest(%(instants)s::timestamptz[]) AS instant
            )
            SELECT instant, {period_sql.start("begun", "instant")} AS start_at,
                   {period_sql.end("begun", "'cus_1'", "'m'", "instant")} AS end_at,
                   {period_sql.is_held("begun", "instant")} IS TRUE AS is_held
            FROM asked
            """,
            {"tenant_id": tenant, "instants": instants},
        )
        drawn = {row.instant: (Span(row.start_at, row.end_at), row.is_held) for row in rows}
        session.rollback()
    for instant in instants:
        span = span_at(spans, instant)
        assert drawn[instant] == (span, span in spans)
        assert span.start_at <= instant < span.end_at
        month = calendar_month(instant)
        assert span in spans or month.start_at <= span.start_at < span.end_at <= month.end_at
