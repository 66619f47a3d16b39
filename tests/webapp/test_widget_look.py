"""What a widget shows, without a database and without a browser."""

import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from metering.catalog.period import Span
from metering.counters.backlog import Backlog
from metering.counters.recent import Recent
from pricing.money import currency
from tests.webapp.widget_page import TEMPLATES, Tags, rendered, text
from tests.webapp.widget_world import (
    CALLS,
    NOVEMBER,
    NOW,
    SEATS,
    Metric,
    page,
    price,
    spread,
)
from webapp.widget import activity, figures, look, words
from webapp.widget.figures import Figures
from webapp.widget.options import Options


def test_the_head_says_what_it_costs_and_where_it_leads() -> None:
    band = ("16000", "18140", "20500")
    calls = Metric("API calls", price(unitPrice="0.01"), spread(13_240), band=band)
    shown_page = page(calls, options=Options("en_GB"))
    [total] = shown_page.sums
    assert (total.so_far, total.estimate, total.by) == ("US$132.40", "US$181", "by 30 Nov")
    assert (total.low, total.high, total.remark) == ("160", "205", None)
    assert (shown_page.period, shown_page.left) == ("1–30 Nov, UTC", "8 days left")
    assert "US$132.40 so far ≈ about US$181 by 30 Nov (160–205)" in text(rendered(shown_page))


def test_small_amounts_are_estimated_to_the_cent() -> None:
    [total] = page(Metric("c", price(unitPrice="0.01"), spread(240))).sums
    assert total.so_far == "$2.40"
    assert re.fullmatch(r"\$3\.\d\d", total.estimate or "")


def test_nothing_is_estimated_of_a_period_that_has_hardly_begun() -> None:
    now = NOVEMBER.start_at + timedelta(minutes=3)
    early = page(Metric("API calls", CALLS, [12], "calls"), now=now)
    [total] = early.sums
    assert total.estimate is None
    assert total.remark == "Too early to estimate: the period began 3 minutes ago."
    assert early.left == "30 days left"
    assert early.rows[0].bar is not None
    assert early.rows[0].bar.expected is None
    assert "≈" not in text(rendered(early))


def test_where_nothing_can_be_expected_nothing_is_guessed() -> None:
    [total] = page(Metric("Seats", SEATS, [8, 9], "seats", "max")).sums
    assert (total.estimate, total.remark) == (None, "Nothing more is expected by Nov 30.")
    [german] = page(Metric("Seats", SEATS, [8], "seats", "max"), options=Options("de_DE")).sums
    assert german.remark == "Nothing more is expected by 30. Nov."


def test_a_cost_that_only_rounds_to_the_same_is_no_promise() -> None:
    tiny = Metric("Calls", price(unitPrice="0.0001"), [0] * 21 + [100], band=("101", "102", "103"))
    [total] = page(tiny).sums
    assert (total.so_far, total.estimate, total.remark) == ("$0.01", "$0.01", None)


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (timedelta(days=29, hours=23), "30 days left"),
        (timedelta(days=8, hours=10), "8 days left"),
        (timedelta(hours=31), "31 hours left"),
        (timedelta(minutes=90), "90 minutes left"),
        (timedelta(seconds=59), "1 minute left"),
        (timedelta(0), "ended"),
    ],
)
def test_what_is_left_of_the_period(before: timedelta, said: str) -> None:
    assert page(Metric("c", CALLS, [1]), now=NOVEMBER.end_at - before).left == said


def test_several_currencies_have_no_one_total() -> None:
    euros = Metric("Storage", price("package", "eur", unitPrice="5", packageSize=100), [126], "GB")
    both = page(Metric("API calls", price(unitPrice="0.01"), spread(2_000)), euros)
    assert [each.so_far for each in both.sums] == ["€10.00", "$20.00"]
    html = rendered(both)
    assert "By day, as a table (EUR)" in html
    assert "By day, as a table (USD)" in html


def test_no_prices_are_said_and_no_amount_is_invented() -> None:
    bare = page(Metric("API calls", None, spread(2_000), "calls"))
    assert not bare.sums
    assert bare.remarks == ["Nothing here has a price yet: this is the usage alone."]
    assert bare.usage is not None
    assert bare.usage.chart.title == "API calls by day"
    assert "$" not in text(rendered(bare))
    assert bare.rows[0].cost == "no price"


def test_a_metric_without_a_price_is_named_beside_the_amount() -> None:
    some = page(Metric("API calls", CALLS, spread(20_000)), Metric("Minutes", None, [4]))
    assert some.remarks == ["Without a price, and not in this amount: Minutes."]


def test_a_token_for_some_metrics_says_what_the_amount_covers() -> None:
    some = page(Metric("API calls", CALLS, spread(20_000)), only=["API calls"])
    assert some.remarks == ["For API calls only: your bill may hold more."]
    names = [Metric(f"M{i}", CALLS, [1]) for i in range(6)]
    assert page(*names, only=["M0"]).remarks == [
        "For M0, M1, M2 and 3 more only: your bill may hold more."
    ]
    assert page(only=["m1", "m2"]).remarks == ["For m1 and m2 only: your bill may hold more."]


def test_an_empty_period_says_what_will_be_here() -> None:
    october = Span(datetime(2026, 10, 1, tzinfo=UTC), NOVEMBER.start_at)
    empty = page(latest=october, options=Options("en_GB"))
    assert not empty.rows
    assert empty.empty[:2] == [
        "No usage in this period yet.",
        "You last used something in the period of 1–31 Oct, UTC.",
    ]
    assert "No usage in this period yet." in text(rendered(empty))


def test_what_is_not_counted_yet_and_what_never_will_be_is_said() -> None:
    calls = Metric("API calls", CALLS, spread(20_000), set_aside=2)
    assert page(calls, backlog=Backlog({"a": 38}, {}, False)).notes == [
        "38 events are still being counted.",
        "2 events came too late for this period and are set aside.",
    ]
    assert page(replace(calls, set_aside=1), backlog=Backlog({"a": 1}, {}, False)).notes == [
        "1 event is still being counted.",
        "1 event came too late for this period and is set aside.",
    ]
    assert page(replace(calls, set_aside=0), backlog=Backlog({"a": 150}, {}, True)).notes == [
        "At least 150 events are still being counted."
    ]
    # Others' backlog is nobody else's to hear of.
    assert page(replace(calls, set_aside=0), backlog=Backlog({}, {}, True)).notes == []


NAMES = [
    '<script>alert(1)</script> & "quotes"',
    "استدعاءات الواجهة",
    "\u202eevil\u202c",
    "Averyveryverylongnamewithoutanyspaces" * 3,
    "{braces} {0}",
]


def test_names_are_text_and_nothing_else() -> None:
    metrics = [Metric(name, CALLS, spread(20_000), name) for name in NAMES]
    html = rendered(page(*metrics, Metric("x", None, [1], metric="m <b>"), only=NAMES))
    tags = Tags(html)
    assert "script" not in tags.names
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "{braces} {0}" in text(html)
    # What turns the text around it does not do so within a sentence.
    for sentence in re.findall(r'<p class="(?:say|remark)">(.*?)</p>', html):
        assert "\u202e" not in sentence


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("dir", ["ltr", "rtl"])
def test_the_policy_is_kept_and_ids_are_of_their_own(compact: bool, dir: str) -> None:
    metrics = [Metric(f"M {i}", CALLS, spread(20_000), "calls") for i in range(12)]
    html = rendered(page(*metrics, options=Options(dir=dir, compact=compact)))
    tags = Tags(html)
    assert not {"script", "style", "img", "iframe", "form"} & set(tags.names)
    assert not [name for name, _ in tags.attributes if name == "style" or name.startswith("on")]
    twice = [each for each, count in Counter(tags.ids).items() if count > 1]
    assert not twice
    assert all(re.fullmatch(r"[a-z0-9-]+", each) for each in tags.ids)


def test_ids_are_the_same_at_the_next_look() -> None:
    before = page(Metric("a", CALLS, spread(20_000)), Metric("b", CALLS, spread(30_000)))
    after = page(Metric("a", CALLS, spread(40_000)), Metric("b", CALLS, spread(30_000)))
    first, second = Tags(rendered(before)), Tags(rendered(after))
    assert [row.name for row in before.rows] == ["b", "a"]
    assert [row.name for row in after.rows] == ["a", "b"]
    assert sorted(first.ids) == sorted(second.ids)


def test_one_stop_of_the_keyboard_a_drawing() -> None:
    html = rendered(page(Metric("a", CALLS, spread(20_000)), Metric("s", SEATS, [4], None, "max")))
    assert html.count("data-roving") == 2
    assert html.count('tabindex="0"') == 2


def test_two_hundred_metrics_are_a_few_and_the_rest() -> None:
    metrics = [Metric(f"Metric {i:03d}", SEATS, [i + 1], "seats") for i in range(199)]
    many = page(*metrics, Metric("No price", None, [5]))
    assert [row.name for row in many.rows][:2] == ["Metric 198", "Metric 197"]
    assert len(many.rows) == 8
    assert len(many.rest) == 192
    assert many.rest[-1].name == "No price"
    assert many.rest_title == "192 more metrics, $220,032.00"
    html = rendered(many)
    assert html.count('<li class="metric"') == 200
    assert len(html) < 120_000


def test_compact_is_the_head_and_the_bars() -> None:
    small = page(Metric("a", CALLS, spread(20_000)), options=Options(compact=True))
    html = rendered(small)
    assert "so far" in html
    assert 'class="chart"' in html
    assert not small.rows
    assert "details" not in Tags(html).names


def test_twelve_digits_are_all_there() -> None:
    huge = page(
        Metric("Tokens", price(unitPrice="0.0000008"), ["123456789012.123"], "tokens"),
        Metric("Operations", price(unitPrice="9.99"), ["987654321098"], "operations"),
    )
    shown_text = text(rendered(huge))
    assert "123,456,789,012.123 tokens" in shown_text
    assert "$9,866,666,667,769.02" in shown_text
    assert huge.sums[0].is_long
    assert huge.sums[0].graph is not None
    assert huge.sums[0].graph.is_wide
    assert 'class="scroll" tabindex="0"' in rendered(huge)


def test_figures_keep_a_sentence_in_order_whatever_their_direction() -> None:
    say = Figures("ar")
    assert say.amount(13_240, currency("usd")).startswith("\u2068\u200f132.40")
    assert say.quantity(Decimal(10_000)) == "10,000"
    assert figures.name("a\u202eb\u2069") == "ab"
    arabic = page(Metric("c", CALLS, spread(20_000), "calls"), options=Options("ar", "rtl"))
    assert arabic.rows[0].sentences[0].startswith("10,000 × \u2068")


def test_recent_activity_says_what_when_and_how_it_stands() -> None:
    yesterday = NOW - timedelta(days=1)
    found = activity.events(
        [
            Recent("api", "API <b>", "calls", Decimal(1), NOW, NOW, "unfolded"),
            Recent("gb", None, None, Decimal("0.5"), yesterday, NOW, "counted"),
        ],
        Options("en_GB"),
        now=NOW,
    )
    first, second = found
    assert (first.quantity, first.unit, first.state) == ("1", "call", "being counted")
    assert (first.time, second.time) == ("14:02:11 UTC", "21 Nov, 14:02:11 UTC")
    # Without a unit of its own a number has one all the same, or it would belong to the date.
    assert (second.name, second.unit, second.state) == ("gb", "units", "")
    template = TEMPLATES.get_template("widget/_activity.html")
    html = template.render(events=found, words=words)
    assert "API &lt;b&gt;" in html
    assert 'title="22 Nov 2026, 14:02:11 UTC"' in html
    assert words.NO_ACTIVITY in template.render(events=[], words=words)


def test_a_look_knows_its_figures() -> None:
    seen = look.Look(Options("de_DE", "rtl", True), NOW)
    assert (seen.say.locale, seen.across.is_rtl, seen.is_compact) == ("de_DE", True, True)
