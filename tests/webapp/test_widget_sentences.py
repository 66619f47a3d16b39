"""What a widget says of a metric: how its cost comes about, and what the next unit costs."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from pricing.price import Price
from tests.webapp.widget_world import (
    CALLS,
    NOW,
    SEATS,
    STORAGE,
    TWO_FLAT,
    Metric,
    graduated,
    line_days,
    page,
    price,
    projection,
    spread,
    volume,
)
from webapp.widget import sentences, statement, words
from webapp.widget.figures import Figures

SAY = Figures("en_US")


def said(of: Metric, now: datetime = NOW) -> list[str]:
    each = line_days(of, now)
    return sentences.of_line(each.line, each.days, SAY, now)


@pytest.mark.parametrize(
    ("of", "used", "aggregation", "unit", "first"),
    [
        (CALLS, 18_240, "sum", "calls",
         "8,240 × $0.008, above the 10,000 included; the next call costs $0.008."),
        (CALLS, 50_000, "sum", "calls",
         "40,000 × $0.008, above the 10,000 included; the next call costs $0.005."),
        (CALLS, 60_000, "sum", "calls",
         "10,000 × $0.005, above 50,000, on top of $320.00; the next call costs $0.005."),
        (CALLS, 3_200, "sum", "calls",
         "3,200 of 10,000 included calls used; above that each costs $0.008."),
        (CALLS, 10_000, "sum", "calls",
         "10,000 of 10,000 included calls used; above that each costs $0.008."),
        (CALLS, 0, "sum", None, "0 of 10,000 included units used; above that each costs $0.008."),
        (graduated(("10000", "0"), (None, "0.008"), minimumCharge="50"), 12_000, "sum", "calls",
         "The minimum of $50.00 is due; usage alone comes to $16.00."),
        (price(unitPrice="1", maximumCharge="50"), 90, "sum", "calls",
         "Capped at $50.00: using more costs nothing more."),
        (TWO_FLAT, 200, "sum", "calls",
         "200 of 10,000 calls for $50.00 used; the next call costs nothing more."),
        (TWO_FLAT, 12_000, "sum", "calls",
         "2,000 × $0.008, above 10,000, on top of $50.00; the next call costs $0.008."),
        (SEATS, 9, "max", "seats", "9 × $12.00; one more seat costs $12.00."),
        (SEATS, 9, "unique", "people", "9 × $12.00; one more people costs $12.00."),
        (SEATS, 0, "max", "seats", "One more seat costs $12.00."),
        (price(unitPrice="0.008"), 12, "sum", "calls", "Each call costs $0.008."),
        (price(unitPrice="0.008"), 0, "sum", "queries", "The next query costs $0.008."),
        (price(unitPrice="0.5", freeUnits="100"), 150, "sum", "GB",
         "50 × $0.50, above the 100 included; the next GB costs $0.50."),
        (STORAGE, 126, "sum", "GB", "2 packages of 100 × $5.00; 74 more GB are already paid for."),
        (STORAGE, 99, "sum", "calls", "1 package of 100 × $5.00; 1 more call is already paid for."),
        (STORAGE, 200, "sum", "GB",
         "2 packages of 100 × $5.00; the next GB begins another for $5.00."),
        (STORAGE, 0, "sum", "GB", "100 GB cost $5.00."),
        (price("package", unitPrice="5", packageSize=100, round="down"), 126, "sum", "GB",
         "1 full package of 100 × $5.00; the next is full at 200."),
        (price("package", unitPrice="5", packageSize=100, freeUnits="2"), 126, "sum", "GB",
         "126 of 200 included GB used; then 100 cost $5.00."),
        (volume(("10000", "0.01"), (None, "0.008")), 10_450, "sum", "calls",
         "All 10,450 × $0.008; the next call costs $0.008."),
        (volume(("10000", "0.01"), (None, "0.008")), 10_000, "sum", "calls",
         "All 10,000 × $0.01; one more call lowers the total by $19.992."),
        (volume(("100", "0"), (None, "0.01")), 50, "sum", "calls",
         "50 of 100 included calls used; above that all of them cost $0.01 each."),
        (price("flat", flatPrice="99"), 22, "sum", None, "A fixed fee, whatever is used."),
        (price(unitPrice="0"), 22, "sum", None, "All of it is included."),
    ],
)  # fmt: skip
def test_how_a_cost_comes_about(
    of: Price, used: int, aggregation: str, unit: str | None, first: str
) -> None:
    metric = Metric("m", of, [used], unit, aggregation, value=str(used))
    assert said(metric)[0] == first


def test_a_bound_is_said_on_the_day_it_is_passed_and_not_on_the_next() -> None:
    calls = Metric("API calls", CALLS, [9_000, 0, 1_200], "calls")
    third = datetime(2026, 11, 3, 15, tzinfo=UTC)
    passed = "You passed the 10,000 included on Nov 3: each call above costs $0.008."
    assert passed in said(calls, third)
    assert not any("passed" in each for each in said(calls, third + timedelta(days=1)))
    prices = volume(("10000", "0.01"), (None, "0.008"))
    assert "You passed 10,000 on Nov 3: all of them now cost $0.008 each." in said(
        replace(calls, price=prices), third
    )
    seats = Metric("Seats", graduated(("5", "9"), (None, "7")), [5, 6], "seats", "max")
    second = datetime(2026, 11, 2, 15, tzinfo=UTC)
    assert "You passed 5 on Nov 2: each seat above costs $7.00." in said(seats, second)


def test_what_the_pace_leads_to_is_said_where_it_makes_a_difference() -> None:
    assert "At this pace all of it stays included." in said(Metric("c", CALLS, spread(4_400)))
    assert "At this pace you pass the 10,000 included by Nov 30." in said(
        Metric("c", CALLS, spread(8_800))
    )
    assert "At this pace you pass 50,000 by Nov 30." in said(Metric("c", CALLS, spread(44_000)))
    assert len(said(Metric("c", CALLS, spread(20_000)))) == 1


def test_a_price_that_changes_is_said() -> None:
    changes = (datetime(2026, 11, 12, tzinfo=UTC), datetime(2026, 11, 28, tzinfo=UTC))
    assert said(Metric("c", CALLS, spread(20_000), changed_at=changes))[1:] == [
        "The price changed on Nov 12; all of this period is at the new one.",
        "The price changes on Nov 28; all of this period is at the new one.",
    ]


def test_a_carried_level_and_an_unfinished_count_are_said() -> None:
    level = Metric("Storage", SEATS, [4], "GB", "last", more={"is_carried": True})
    assert words.CARRIED in said(level)
    users = Metric(
        "Users", SEATS, [], "users", "unique", value="4", more={"unique_complete": False}
    )
    assert words.INCOMPLETE in said(users)


def test_what_is_an_adjustment_is_said() -> None:
    def of(value: str, delta: int) -> list[str]:
        more = {"delta": Decimal(delta)}
        metric = Metric("c", price(unitPrice="0.01"), [], "calls", value=value, more=more)
        return list(page(metric).rows[0].sentences)

    assert "Includes an adjustment of +1 call." in of("101", 1)
    assert "Includes an adjustment of \u221220 calls (credit)." in of("80", -20)
    below = "Adjustments of \u221220 calls are more than was used: nothing of it is billed."
    assert below in of("-8", -20)


@pytest.mark.parametrize(
    "of", [CALLS, SEATS, STORAGE, volume(("100", "0.5"), (None, "0.4")), TWO_FLAT]
)
def test_a_number_below_zero_is_shown_and_costs_what_nothing_does(of: Price) -> None:
    more = {"delta": Decimal(-20)}
    [below] = page(Metric("c", of, [12, -20], "calls", value="-8", more=more)).rows
    [nothing] = page(Metric("c", of, [0], "calls")).rows
    assert below.quantity == "\u22128"
    assert (below.cost, below.sentences[0]) == (nothing.cost, nothing.sentences[0])


def test_the_statement_notes_what_is_an_adjustment_and_what_is_set_aside() -> None:
    more = {"delta": Decimal(-20)}
    metric = Metric("c", price(unitPrice="0.01"), [12, -20], value="-8", set_aside=2, more=more)
    *_, line, total = statement.rows(*projection([metric]))
    assert line[6:9] == (Decimal(-8), Decimal("0.00"), "USD")
    assert line[-1] == (
        "includes an adjustment of -20; a quantity below zero is billed as 0;"
        " 2 events came too late for the period and are set aside"
    )
    assert total[7] == Decimal("0.00")


def test_included_is_a_word_and_nothing_to_pay_is_an_amount() -> None:
    costs = {
        row.name: (row.cost, row.is_amount)
        for row in page(
            Metric("included", CALLS, [5]),
            Metric("nothing used", price(unitPrice="1"), [0]),
            Metric("minimum", replace(CALLS, minimum_charge=Decimal(500)), [5]),
        ).rows
    }
    assert costs["included"] == ("included", False)
    assert costs["nothing used"] == ("$0.00", True)
    assert costs["minimum"] == ("$5.00", True)


def test_the_price_table_adds_up() -> None:
    [row] = page(Metric("c", CALLS, spread(60_000), "calls")).rows
    assert [(t.units, t.each, t.used, t.comes_to, t.is_here) for t in row.tiers] == [
        ("up to 10,000", "included", "10,000", "$0.00", False),
        ("10,000 – 50,000", "$0.008", "40,000", "$320.00", False),
        ("above 50,000", "$0.005", "10,000", "$50.00", True),
    ]
    assert row.cost == "$370.00"


@pytest.mark.parametrize(
    ("unit", "one"),
    [
        ("calls", "call"), ("seats", "seat"), ("queries", "query"), ("boxes", "box"),
        ("GB", "GB"), ("GBs", "GBs"), ("status", "status"), ("bus", "bus"),
        ("وحدات", "\u2068وحدات\u2069"),
    ],
)  # fmt: skip
def test_a_unit_is_told_from_its_plural_only_where_it_is_plain(unit: str, one: str) -> None:
    assert sentences.unit(unit, one=True) == one


def test_no_sentence_is_kept_that_nothing_says() -> None:
    web = Path(words.__file__).parent.parent
    sources = [*(web / "widget").glob("*.py"), *(web / "templates" / "widget").glob("*.html")]
    said = "".join(path.read_text() for path in sources if path.name != "words.py")
    names = [name for name in vars(words) if name.isupper()]
    assert len(names) > 100
    assert [name for name in names if not re.search(rf"\bwords\.{name}\b", said)] == []
