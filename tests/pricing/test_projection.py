"""Where a period's usage is heading: by past weeks, and evenly where none are known."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.projection import (
    HOURS_OF_WEEK,
    WEEK,
    Band,
    Week,
    by_weeks,
    evenly,
    exactly,
    extrapolate,
    hours_of_week,
)

QUANTITIES = st.decimals(min_value=0, max_value=10**9, places=12)
USUAL = st.decimals(min_value=0, max_value=10**6, places=3)
# What a week brought is part of what it would bring to a period: any three numbers will do.
WEEKS = st.lists(
    st.builds(Week, USUAL, USUAL, st.decimals(min_value="0.001", max_value=10**6, places=3)),
    min_size=1,
    max_size=8,
)


def test_half_a_period_is_doubled() -> None:
    assert extrapolate(Decimal(10), Decimal(50), Decimal(100)) == 20


def test_before_anything_has_elapsed_nothing_is_known() -> None:
    assert extrapolate(Decimal(10), Decimal(0), Decimal(100)) == 10
    assert evenly(Decimal(10), Decimal(0), Decimal(100)) == exactly(Decimal(10))


def test_time_outside_the_period_is_refused() -> None:
    with pytest.raises(ValueError, match="within the period"):
        extrapolate(Decimal(1), Decimal(101), Decimal(100))


@given(QUANTITIES, st.integers(1, 10**7))
def test_at_the_end_the_projection_is_the_quantity(quantity: Decimal, seconds: int) -> None:
    assert extrapolate(quantity, Decimal(seconds), Decimal(seconds)) == quantity
    assert evenly(quantity, Decimal(seconds), Decimal(seconds)) == exactly(quantity)


@given(QUANTITIES, WEEKS)
def test_with_nothing_ahead_the_weeks_add_nothing(quantity: Decimal, weeks: list[Week]) -> None:
    over = [Week(week.behind, Decimal(0), week.whole) for week in weeks]
    assert by_weeks(quantity, over) == exactly(quantity)


def assert_ordered(quantity: Decimal, band: Band) -> None:
    assert quantity <= band.low <= band.expected <= band.high


@given(QUANTITIES, st.integers(0, 10**6), st.integers(0, 10**6))
def test_evenly_a_band_holds_what_is_expected_and_no_less_than_the_usage(
    quantity: Decimal, elapsed: int, rest: int
) -> None:
    if not elapsed + rest:
        return
    band = evenly(quantity, Decimal(elapsed), Decimal(elapsed + rest))
    assert_ordered(quantity, band)
    assert band.expected == extrapolate(quantity, Decimal(elapsed), Decimal(elapsed + rest))


@given(QUANTITIES, WEEKS)
def test_by_weeks_a_band_holds_what_is_expected_and_no_less_than_the_usage(
    quantity: Decimal, weeks: list[Week]
) -> None:
    assert_ordered(quantity, by_weeks(quantity, weeks))


@given(QUANTITIES, WEEKS, st.integers(2, 1000))
def test_ten_times_the_usage_is_ten_times_the_projection(
    quantity: Decimal, weeks: list[Week], times: int
) -> None:
    more = [Week(w.behind * times, w.ahead * times, w.whole * times) for w in weeks]
    one, many = by_weeks(quantity, weeks), by_weeks(quantity * times, more)
    for small, large in zip(
        (one.low, one.expected, one.high), (many.low, many.expected, many.high), strict=True
    ):
        assert abs(small * times - large) <= times * Decimal("1e-12")


@given(st.integers(1, 30 * 24), st.integers(1, 30 * 24), st.integers(1, 10**6))
def test_weeks_that_are_all_alike_leave_nothing_open(behind: int, ahead: int, hourly: int) -> None:
    week = Week(Decimal(behind * hourly), Decimal(ahead * hourly), Decimal(168 * hourly))
    as_usual = by_weeks(week.behind, [week] * 4)
    assert as_usual == exactly(Decimal((behind + ahead) * hourly))


def test_half_as_much_again_is_expected_of_whoever_uses_half_as_much_again() -> None:
    # Two weeks are over and two remain; a week usually brings 70, which is 10 a day.
    week = Week(Decimal(140), Decimal(140), Decimal(70))
    band = by_weeks(Decimal(210), [week] * 4)
    # The pace is (210 + 10) / (140 + 10), for one usual day is added to both sides.
    assert band.expected == Decimal("210") + Decimal("205.333333333333")
    assert (band.low, band.high) == (Decimal(350), band.expected)


def test_the_first_minutes_decide_nothing() -> None:
    # Nothing is usually used by now; a burst does not become a month of bursts.
    week = Week(Decimal(0), Decimal(300), Decimal(70))
    assert by_weeks(Decimal(0), [week] * 4).expected == 300
    assert by_weeks(Decimal(10), [week] * 4).expected == 10 + 2 * 300


def test_the_band_reaches_from_the_quietest_week_to_the_busiest() -> None:
    quiet, busy = (Week(Decimal(70), Decimal(n), Decimal(70)) for n in (40, 160))
    assert by_weeks(Decimal(70), [quiet, busy]) == Band(Decimal(110), Decimal(170), Decimal(230))


def test_without_history_the_band_narrows_as_the_period_goes_by() -> None:
    bands = [evenly(Decimal(at), Decimal(at), Decimal(100)) for at in (10, 50, 90, 100)]
    assert [(b.low, b.expected, b.high) for b in bands] == [
        (19, 100, 181), (75, 100, 125), (99, 100, 101), (100, 100, 100),
    ]  # fmt: skip


@given(st.integers(0, 4 * 10**9), st.integers(0, 100 * 86_400))
def test_the_hours_of_a_span_are_all_of_its_seconds(start: int, length: int) -> None:
    hours = hours_of_week(start, start + length)
    assert len(hours) == HOURS_OF_WEEK
    assert sum(hours) == length
    assert max(hours) - min(hours) <= 3600
    middle = start + length // 3
    parts = zip(hours_of_week(start, middle), hours_of_week(middle, start + length), strict=True)
    assert [sum(part) for part in parts] == hours


def test_hours_are_counted_from_the_epoch_whichever_day_that_is() -> None:
    assert hours_of_week(WEEK + 1800, WEEK + 3 * 3600)[:4] == [1800, 3600, 3600, 0]
    assert hours_of_week(WEEK - 60, WEEK + 60)[0] == 60
    assert hours_of_week(WEEK - 60, WEEK + 60)[-1] == 60
    assert hours_of_week(100, 100) == [0] * HOURS_OF_WEEK
