"""What a widget draws: bars against prices, and the period by day."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.catalog.period import Span
from pricing.price import Price
from tests.webapp.widget_page import Tags, rendered
from tests.webapp.widget_world import (
    CALLS,
    NOVEMBER,
    NOW,
    SEATS,
    STORAGE,
    TWO_FLAT,
    Metric,
    graduated,
    line_days,
    page,
    price,
    spread,
    volume,
)
from webapp.widget import bars, daily, figures
from webapp.widget.geometry import NARROW, Across
from webapp.widget.options import Options


def test_a_bar_shows_the_bound_that_comes_next_and_mirrors() -> None:
    [row] = page(Metric("c", CALLS, spread(20_000))).rows
    assert row.bar is not None
    assert row.bar.fill.width == "40%"
    assert [(mark.x, mark.says) for mark in row.bar.marks] == [
        ("20%", "above 10,000: $0.008 each"),
        ("100%", "above 50,000: $0.005 each"),
    ]
    assert [label.text for label in row.bar.labels] == ["10,000 included", "50,000"]
    [mirrored] = page(Metric("c", CALLS, spread(20_000)), options=Options(dir="rtl")).rows
    assert mirrored.bar is not None
    assert (mirrored.bar.fill.x, mirrored.bar.fill.width) == ("60%", "40%")
    assert [mark.x for mark in mirrored.bar.marks] == ["80%", "0%"]


def test_a_package_shows_what_is_left_of_the_begun_one() -> None:
    [row] = page(Metric("s", STORAGE, [126], "GB")).rows
    assert row.bar is not None
    assert (row.bar.fill.width, row.bar.labels[0].text) == ("26%", "26 of this package’s 100")
    [full] = page(Metric("s", STORAGE, [200], "GB")).rows
    assert full.bar is not None
    assert full.bar.fill.width == "100%"


def test_a_thousand_tiers_are_not_a_thousand_marks() -> None:
    tiers = [(str(10 * i), "0.01") for i in range(1, 1000)]
    [row] = page(Metric("c", graduated(*tiers, (None, "0.005")), spread(9_000))).rows
    assert row.bar is not None
    assert len(row.bar.marks) <= bars.MOST_MARKS


@given(
    st.floats(0, 100),
    st.text(st.characters(codec="utf-8"), max_size=40).filter(lambda t: figures.pixels(t) < NARROW),
    st.booleans(),
)
def test_a_label_stays_within_a_narrow_drawing(x: float, text: str, is_rtl: bool) -> None:
    label = Across(is_rtl).label(x, text)
    assert label.begins >= -0.01
    assert label.ends <= NARROW + 0.01
    place = float(label.x.rstrip("%")) / 100 * NARROW + float(label.dx)
    width = figures.pixels(text)
    left = place - {"start": 0, "middle": 0.5, "end": 1}[label.anchor] * width
    assert left == pytest.approx(label.begins, abs=0.1)


def test_the_chart_marks_today_and_leaves_the_rest_lighter() -> None:
    [total] = page(Metric("c", price(unitPrice="0.01"), spread(13_240))).sums
    assert total.graph is not None
    chart = total.graph.chart
    assert len(chart.columns) == 30
    assert [column.is_today for column in chart.columns].index(True) == 21
    assert all(column.bar and not column.expected for column in chart.columns[:21])
    assert all(column.expected and not column.bar for column in chart.columns[22:])
    assert chart.columns[21].bar is not None
    assert chart.columns[21].expected is not None
    assert chart.band is not None
    assert float(chart.band.x.rstrip("%")) == pytest.approx(22 / 30 * 100, abs=0.01)
    assert chart.today is not None
    assert chart.today.label.text == "today $6.19"
    assert chart.columns[0].says == "Nov 1: $6.01"
    assert re.fullmatch(r"Nov 30: ≈ \$\d\.\d\d expected", chart.columns[29].says)
    # Every bar stands on the floor.
    for column in chart.columns[:22]:
        assert column.bar is not None
        assert float(column.bar.y) + float(column.bar.height) == pytest.approx(
            float(chart.floor), abs=0.02
        )


def test_a_day_that_lowers_the_cost_hangs_below_the_floor() -> None:
    prices = volume(("10000", "0.010"), (None, "0.008"))
    [total] = page(Metric("c", prices, [480] * 19 + [600, 580, 150], "calls")).sums
    assert total.graph is not None
    chart = total.graph.chart
    fallen = chart.columns[20]
    assert fallen.says == "Nov 21: −$14.80"
    assert fallen.bar is not None
    assert float(fallen.bar.y) == pytest.approx(float(chart.floor), abs=0.01)
    assert chart.dip is not None
    assert chart.dip.label.text == "−$14.80"
    assert total.graph.table[20].value == "−$14.80"
    lowest = float(fallen.bar.y) + float(fallen.bar.height)
    assert lowest <= float(chart.height) - 17


def test_a_year_is_drawn_by_weeks() -> None:
    year = Span(datetime(2026, 3, 10, 9, tzinfo=UTC), datetime(2027, 3, 10, 9, tzinfo=UTC))
    calls = Metric("c", price(unitPrice="0.01"), [100] * 258, span=year)
    whole = page(calls, span=year)
    [total] = whole.sums
    assert total.graph is not None
    assert total.graph.chart.title == "Cost by week"
    assert len(total.graph.chart.columns) == 53
    assert whole.period == "Mar 10, 2026\u2009–\u2009Mar 10, 2027, UTC"
    assert total.by == "by Mar 10, 2027"


def test_a_period_of_one_day_has_no_chart() -> None:
    day = Span(NOW.replace(hour=0, minute=0, second=0), NOVEMBER.end_at - timedelta(days=8))
    [total] = page(Metric("c", CALLS, [20_000], span=day), span=day).sums
    assert total.graph is None


def test_what_the_bars_leave_out_is_said_and_is_in_the_table() -> None:
    own = Span(datetime(2026, 11, 10, 9, tzinfo=UTC), datetime(2026, 12, 10, 9, tzinfo=UTC))
    mixed = page(
        Metric("Plan", price("flat", flatPrice="99"), [1] * 22),
        Metric("Users", price(unitPrice="0.5"), [], "users", "unique", value="318"),
        Metric("Seats", SEATS, [8] * 22, "seats", "max"),
        Metric("API calls", price(unitPrice="0.01"), spread(2_200)),
        Metric("Traffic", price(unitPrice="0.01"), [90] * 13, span=own),
        options=Options("en_GB"),
    )
    [total] = mixed.sums
    assert total.graph is not None
    assert total.graph.besides == (
        "Not in the bars: US$99.00 due whatever is used; Users (US$159.00); Seats (US$96.00);"
        " Traffic (US$11.70 for 10 Nov\u2009–\u200910 Dec, UTC)."
    )
    assert total.graph.table[-1].so_far == total.so_far == "US$387.70"
    assert total.by == "by the end of each period"


def test_a_day_on_which_the_total_fell_is_explained() -> None:
    cheaper = volume(("10000", "0.01"), (None, "0.008"))
    [total] = page(Metric("Calls", cheaper, [0] * 20 + [9_999, 2])).sums
    assert total.graph is not None
    assert total.graph.besides == "A bar below the line: the total fell that day."
    [total] = page(Metric("Calls", cheaper, [0] * 20 + [9_998, 2])).sums
    assert total.graph is not None
    assert total.graph.besides == ""


PRICES = st.sampled_from(
    [
        CALLS,
        STORAGE,
        SEATS,
        TWO_FLAT,
        price("flat", flatPrice="99"),
        price(unitPrice="0.003", minimumCharge="5", maximumCharge="40"),
        volume(("100", "0.5"), ("1000", "0.3"), (None, "0.01")),
    ]
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            PRICES,
            st.sampled_from(["sum", "count", "max", "last", "unique"]),
            st.lists(st.integers(0, 3_000), min_size=1, max_size=22),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_the_days_the_fixed_and_the_undated_are_the_number(given_lines: list[Any]) -> None:
    days = [
        line_days(Metric(f"m{i}", of, by_day, None, how, value="7" if how == "unique" else None))
        for i, (of, how, by_day) in enumerate(given_lines)
    ]
    found = daily.of_cost(NOVEMBER, days, NOW)
    if found is None:
        return
    total = sum(each.line.amounts.current for each in days if each.line.amounts)
    beside = sum(
        line.amounts.current for line in (*found.undated, *found.elsewhere) if line.amounts
    )
    bars_say = sum(bucket.value for bucket in found.buckets if bucket.value is not None)
    assert bars_say + found.anyway + beside == total


@settings(max_examples=60, deadline=None)
@given(PRICES, st.lists(st.integers(0, 10**12), min_size=1, max_size=22), st.booleans())
def test_every_page_can_be_drawn(of: Price, by_day: list[int], compact: bool) -> None:
    shown_page = page(Metric("m", of, by_day, "calls"), options=Options(compact=compact))
    html = rendered(shown_page)
    for name, value in Tags(html).attributes:
        if name in ("width", "height"):
            assert value is not None
            assert float(value.rstrip("%")) >= 0
        assert value is None or "nan" not in value.lower()
