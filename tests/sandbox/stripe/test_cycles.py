"""Anchors and the periods that they make."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.stripe import cycles
from sandbox.stripe.cycles import Anchor
from tests.sandbox.stripe.billing import at

instants = st.integers(at("2020-01-01"), at("2035-01-01"))


def _bounds(anchor, interval="month", count=1, number=4):
    return [cycles.bound(anchor, interval, count, n) for n in range(number)]


def test_the_31st_is_clipped_and_comes_back():
    assert _bounds(Anchor(at("2026-01-31 10:23:45"))) == [
        at("2026-01-31 10:23:45"),
        at("2026-02-28 10:23:45"),
        at("2026-03-31 10:23:45"),
        at("2026-04-30 10:23:45"),
    ]


def test_a_leap_day_of_each_year():
    days = _bounds(Anchor(at("2024-02-29")), "year", 1, 5)
    assert days[1] == at("2025-02-28")
    assert days[4] == at("2028-02-29")


@pytest.mark.parametrize(
    ("interval", "count", "end"),
    [
        ("day", 1, "2026-01-16"),
        ("day", 10, "2026-01-25"),
        ("week", 2, "2026-01-29"),
        ("month", 3, "2026-04-15"),
        ("year", 1, "2027-01-15"),
    ],
)
def test_intervals(interval, count, end):
    start = at("2026-01-15")
    assert cycles.period(Anchor(start), interval, count, start) == (start, at(end))


def test_a_configured_day_is_kept_where_its_first_month_is_too_short():
    anchor = cycles.configured(
        at("2026-02-10 08:00:00"), day_of_month=31, hour=0, minute=0, second=0
    )
    assert _bounds(anchor, number=3) == [at("2026-02-28"), at("2026-03-31"), at("2026-04-30")]


def test_a_configured_time_is_the_next_one_from_the_start():
    start = at("2026-01-15 10:23:45")
    assert cycles.configured(start, day_of_month=15).at == start
    assert cycles.configured(start, day_of_month=15, hour=9).at == at("2026-02-15 09:23:45")
    assert cycles.configured(start, day_of_month=1, month=1).at == at("2027-01-01 10:23:45")


@given(
    instants,
    instants,
    st.sampled_from(["day", "week", "month", "year"]),
    st.integers(1, 3),
    st.sampled_from([None, 31]),
)
def test_the_periods_of_an_anchor_lie_end_to_end(anchored, instant, interval, count, day):
    anchor = Anchor(anchored, day)
    start, end = cycles.period(anchor, interval, count, instant)
    assert start <= instant < end
    assert cycles.period(anchor, interval, count, end)[0] == end
    assert cycles.period(anchor, interval, count, start - 1)[1] == start
