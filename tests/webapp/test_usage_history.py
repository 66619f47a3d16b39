"""GET /v1/usage/history: the series is the ledger, cut at the zone's own days and months."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from tests.support import entry, fold_all, put
from tests.webapp.support import AppMaker, Clock, assert_problem

HISTORY = "/v1/usage/history"
NOW = datetime(2026, 11, 20, 12, 34, 56, tzinfo=UTC)
AGGREGATIONS = ("sum", "count", "max", "last", "unique")


@dataclass(frozen=True)
class Happened:
    """An event as the test remembers it."""

    key: str
    at: datetime
    quantity: Decimal
    customer: str
    resource: str | None


# Around each change of the clocks of the zones below, and around the ends of months.
CENTRES = [
    datetime(2026, 3, 29, 1, tzinfo=UTC),  # Berlin goes forward
    datetime(2026, 10, 25, 1, tzinfo=UTC),  # Berlin goes back
    datetime(2026, 4, 4, 15, tzinfo=UTC),  # Lord Howe goes back, by half an hour
    datetime(2026, 10, 3, 15, 30, tzinfo=UTC),  # Lord Howe goes forward
    datetime(2026, 3, 31, 22, tzinfo=UTC),
    datetime(2026, 9, 30, 13, 30, tzinfo=UTC),  # where October begins on Lord Howe
]


@cache
def happened() -> list[Happened]:
    """600 events, the same in every run; many at the very edges of hours and half hours."""
    chance = random.Random(20261120)
    events = []
    for i in range(600):
        at = chance.choice(CENTRES) + timedelta(seconds=chance.randrange(-200_000, 200_000))
        if chance.random() < 0.5:
            at = at.replace(minute=chance.choice([0, 30]), second=0)
            at += timedelta(microseconds=chance.choice([-1, 0, 1]))
        events.append(
            Happened(
                key=f"k{chance.randrange(10**9):09d}-{i}",
                at=at,
                quantity=Decimal(chance.randrange(10**9)).scaleb(-chance.randrange(12)),
                customer=chance.choice(["cus_1", "cus_2"]),
                resource=chance.choice([None, "r1", "r2", "r3", "r4"]),
            )
        )
    # In the half hour behind the edge of a Lord Howe day and month, whatever chance has made.
    for day in (datetime(2026, 9, 30, tzinfo=UTC), datetime(2026, 10, 3, tzinfo=UTC)):
        at = day.replace(hour=13, minute=45)
        events.append(Happened(f"edge-{at:%d}", at, Decimal("0.5"), "cus_1", "r5"))
    return events


def read(aggregation: str, events: list[Happened]) -> Decimal | None:
    """The aggregation's reading, computed the plain way."""
    if not events:
        return None if aggregation in ("max", "last") else Decimal(0)
    match aggregation:
        case "sum":
            return sum((e.quantity for e in events), Decimal(0))
        case "count":
            return Decimal(len(events))
        case "max":
            return max(e.quantity for e in events)
        case "last":
            return max(events, key=lambda e: (e.at, e.key)).quantity
    return Decimal(len({(e.customer, e.resource) for e in events if e.resource is not None}))


@pytest.fixture(scope="module")
def ledger(engine, make_app: AppMaker) -> Iterator[tuple[FlaskClient, str]]:
    """The events above, folded, under one metric per aggregation."""
    client = make_app(clock=Clock(NOW)).test_client()
    tenant = "t-history"
    for aggregation in AGGREGATIONS:
        made = client.put(
            f"/v1/metrics/by_{aggregation}", json={"tenantId": tenant, "aggregation": aggregation}
        )
        assert made.status_code == 200
    with Session(engine) as session:
        for metric in AGGREGATIONS:
            rows = [
                entry(f"{metric}-{e.key}", f"{e.quantity:f}", e.at, metric=f"by_{metric}",
                      customer=e.customer, resource=e.resource)
                for e in happened()
            ]  # fmt: skip
            put(session, tenant, rows, now=NOW)
        fold_all(session, tenant)
    return client, tenant


def ask(ledger: tuple[FlaskClient, str], **asked: object):
    client, tenant = ledger
    return client.get(HISTORY, query_string={"tenantId": tenant, "metric": "by_sum"} | asked)


def local(at: datetime, zone: ZoneInfo, interval: str) -> tuple[object, ...]:
    """Which bucket an instant belongs to, by the zone's own calendar."""
    there = at.astimezone(zone)
    day = (there.year, there.month, there.day)
    return {"month": day[:2], "day": day}[interval]


def assert_series(
    ledger: tuple[FlaskClient, str], aggregation: str, zone: str, interval: str,
    since: datetime, until: datetime, customer: str | None,
) -> None:  # fmt: skip
    asked = {"customerRef": customer} if customer else {}
    answer = ask(
        ledger, metric=f"by_{aggregation}", timezone=zone, interval=interval,
        since=since.isoformat(), until=until.isoformat(), **asked,
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    shown = answer.get_json()
    starts = [datetime.fromisoformat(point["ts"]) for point in shown["series"]]
    ends = [*starts[1:], datetime.fromisoformat(shown["timeRange"]["end"])]
    assert starts == sorted(set(starts))
    assert starts[0] == datetime.fromisoformat(shown["timeRange"]["start"]) <= since
    assert ends[-1] >= until
    mine = [e for e in happened() if customer in (None, e.customer)]
    for start, end, point in zip(starts, ends, shown["series"], strict=True):
        expected = read(aggregation, [e for e in mine if start <= e.at < end])
        value = None if point["value"] is None else Decimal(point["value"])
        assert value == expected, (aggregation, zone, interval, point["ts"])
        if interval in ("day", "month"):
            inside = {local(start, ZoneInfo(zone), interval)} | {
                local(end - timedelta(microseconds=1), ZoneInfo(zone), interval)
            }
            assert len(inside) == 1, "a bucket is one day or month of the zone"
            assert local(end, ZoneInfo(zone), interval) not in inside
    whole = read(aggregation, [e for e in mine if starts[0] <= e.at < ends[-1]])
    total = shown["totals"]["value"]
    assert (None if total is None else Decimal(total)) == whole


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize(
    "zone", ["UTC", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "America/St_Johns"]
)
def test_hours_and_days_are_the_ledgers_around_every_change_of_clocks(
    ledger: tuple[FlaskClient, str], aggregation: str, zone: str
) -> None:
    for centre in CENTRES:
        around = (centre - timedelta(days=2, minutes=7), centre + timedelta(days=2, hours=3))
        for interval in ("hour", "day"):
            assert_series(ledger, aggregation, zone, interval, *around, None)
    assert_series(ledger, aggregation, zone, "hour", *around, "cus_2")


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_minutes_are_the_ledgers(ledger: tuple[FlaskClient, str], aggregation: str) -> None:
    for centre in CENTRES:
        around = (centre - timedelta(hours=11), centre + timedelta(hours=12))
        assert_series(ledger, aggregation, "Australia/Lord_Howe", "minute", *around, "cus_1")


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("aggregation", ["sum", "count", "max", "last"])
def test_months_are_the_ledgers(
    ledger: tuple[FlaskClient, str], aggregation: str, zone: str
) -> None:
    year = (datetime(2026, 1, 15, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC))
    assert_series(ledger, aggregation, zone, "month", *year, None)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe"])
def test_a_month_that_changed_its_clocks_before_the_span_is_whole(
    ledger: tuple[FlaskClient, str], zone: str
) -> None:
    # October on Lord Howe begins at +10:30; from 20 October on all offsets are full hours, and yet
    # hourly segments cannot serve the month.
    late = (datetime(2026, 10, 20, tzinfo=UTC), datetime(2026, 10, 28, tzinfo=UTC))
    for aggregation in AGGREGATIONS:
        assert_series(ledger, aggregation, zone, "month", *late, None)
    # The day itself: midnight lies before the change, the span begins after it.
    day = (datetime(2026, 10, 3, 16, tzinfo=UTC), datetime(2026, 10, 4, 3, tzinfo=UTC))
    assert_series(ledger, "sum", zone, "day", *day, None)


def test_the_days_of_a_change_have_their_own_lengths(ledger: tuple[FlaskClient, str]) -> None:
    def hours(since: str, until: str, zone: str) -> list[float]:
        shown = ask(ledger, since=since, until=until, timezone=zone, interval="day").get_json()
        ts = [datetime.fromisoformat(p["ts"]) for p in shown["series"]]
        ts.append(datetime.fromisoformat(shown["timeRange"]["end"]))
        return [(b - a) / timedelta(hours=1) for a, b in pairwise(ts)]

    assert hours("2026-03-27T23:00:00Z", "2026-03-30T22:00:00Z", "Europe/Berlin") == [24, 23, 24]
    assert hours("2026-10-23T22:00:00Z", "2026-10-26T23:00:00Z", "Europe/Berlin") == [24, 25, 24]
    lord_howe = hours("2026-04-03T13:00:00Z", "2026-04-05T13:30:00Z", "Australia/Lord_Howe")
    assert lord_howe == [24, 24.5]


@pytest.mark.parametrize(
    ("asked", "since", "until"),
    [
        ({}, "2026-10-21T00:00:00Z", "2026-11-21T00:00:00Z"),
        ({"since": "-PT24H", "interval": "hour"}, "2026-11-19T12:00:00Z", "2026-11-20T13:00:00Z"),
        ({"since": "-P7D", "until": "-P6D"}, "2026-11-13T00:00:00Z", "2026-11-15T00:00:00Z"),
        ({"since": "-P1DT2H3M4S", "until": "now"}, "2026-11-19T00:00:00Z", "2026-11-21T00:00:00Z"),
        ({"periodStart": "2026-01-01T00:00:00Z", "periodEnd": "2026-03-01T00:00:00Z",
          "step": "month"}, "2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z"),
        ({"since": "2026-11-19T22:59:59.999999-01:00", "until": "2026-11-20T00:00:00Z",
          "interval": "minute"}, "2026-11-19T23:59:00Z", "2026-11-20T00:00:00Z"),
        ({"since": "-PT24H", "until": "now", "interval": "minute"},
         "2026-11-19T12:34:00Z", "2026-11-20T12:35:00Z"),
        ({"since": "-P31D", "metric": "by_unique"}, "2026-10-20T00:00:00Z", "2026-11-21T00:00:00Z"),
        ({"since": "-P31D", "timezone": "Asia/Kolkata"},
         "2026-10-19T18:30:00Z", "2026-11-20T18:30:00Z"),
        ({"since": "2020-01-01T00:00:00Z", "interval": "month", "timezone": "Europe/Berlin"},
         "2019-12-31T23:00:00Z", "2026-11-30T23:00:00Z"),
    ],
)  # fmt: skip
def test_spans_can_be_said_in_many_ways(
    ledger: tuple[FlaskClient, str], asked: dict[str, str], since: str, until: str
) -> None:
    answer = ask(ledger, **asked)
    assert answer.status_code == 200, answer.text
    assert answer.get_json()["timeRange"] == {"start": since, "end": until}


@pytest.mark.parametrize(
    ("asked", "pointer"),
    [
        ({"interval": "minute", "since": "-PT24H1S"}, "/since"),
        ({"metric": "by_unique", "since": "-P31DT1S"}, "/since"),
        ({"timezone": "Asia/Kolkata", "since": "-P31DT1S"}, "/since"),
        ({"timezone": "Australia/Lord_Howe", "since": "-P100D"}, "/since"),
        ({"interval": "hour", "since": "-P600D"}, "/interval"),
        ({"since": "now"}, "/until"),
        ({"since": "-P1D", "until": "-P2D"}, "/until"),
        ({"since": "yesterday"}, "/since"),
        ({"since": "-P"}, "/since"),
        ({"since": "-PT"}, "/since"),
        ({"since": "-P1M"}, "/since"),
        ({"since": "-P99999D"}, "/since"),
        ({"until": "2026-11-20"}, "/until"),
        ({"since": "-P1D", "periodStart": "-P1D"}, "/since"),
        ({"interval": "day", "step": "day"}, "/interval"),
        ({"interval": "week"}, "/interval"),
        ({"timezone": "Mars/Olympus"}, "/timezone"),
        ({"timezone": ""}, "/timezone"),
        ({"timezone": "../../etc/passwd"}, "/timezone"),
        ({"timezone": "Europe"}, "/timezone"),
        ({"timezone": "x" * 5000}, "/timezone"),
        ({"timezone": "a\0"}, "/timezone"),
        ({"metric": ""}, "/metric"),
        ({"metric": "m" * 101}, "/metric"),
        ({"customerRef": ""}, "/customerRef"),
        ({"surprise": "1"}, "/surprise"),
        ({"metric": ["a", "b"]}, "/metric"),
    ],
)
def test_a_bad_question_is_refused(
    ledger: tuple[FlaskClient, str], asked: dict[str, object], pointer: str
) -> None:
    assert_problem(ask(ledger, **asked), 422, pointer=pointer)


def test_a_minute_span_that_is_too_long_says_how_long_it_may_be(
    ledger: tuple[FlaskClient, str],
) -> None:
    # Beyond a week there are more than 10,000 points as well, which is not what to change.
    assert "24 hours" in assert_problem(ask(ledger, interval="minute", since="-P25D"), 422)


def test_what_was_never_used_is_nothing(ledger: tuple[FlaskClient, str]) -> None:
    shown = ask(ledger, metric="unheard_of", since="-P2D").get_json()
    assert [point["value"] for point in shown["series"]] == ["0", "0", "0"]
    assert shown["totals"] == {"value": "0"}
    shown = ask(ledger, metric="by_max", customerRef="nobody", since="-P1D").get_json()
    assert [point["value"] for point in shown["series"]] == [None, None]
    assert shown["totals"] == {"value": None}
