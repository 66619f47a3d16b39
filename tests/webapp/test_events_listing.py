"""GET /v1/events: each event once, in every order, with where it stands."""

import base64
import json
import random
from datetime import UTC, datetime, timedelta

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.orm import Session

from tests.support import entry, fold_all, put
from tests.webapp.support import assert_problem, incompressible

EVENTS = "/v1/events"
START = datetime(2026, 11, 1, tzinfo=UTC)
RANGE = {"startTime": "2026-11-01T00:00:00Z", "endTime": "2026-12-01T00:00:00Z"}


def listed(client: FlaskClient, tenant: str, **asked: object) -> dict:
    answer = client.get(EVENTS, query_string={"tenantId": tenant} | asked)
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def ids(page: dict) -> list[str]:
    return [event["id"] for event in page["events"]]


@pytest.fixture
def sixty(session: Session, tenant: str) -> list[str]:
    """Sixty events in batches, so that many share an instant of arrival and of use."""
    chance = random.Random(60)
    keys = [f"{'kКé'[i % 3]}{i:02d}" for i in range(60)]
    chance.shuffle(keys)
    for i in range(0, 60, 20):
        rows = [
            entry(key, 1, START + timedelta(hours=chance.randrange(5)),
                  metric=chance.choice("ab"), customer=chance.choice("xy"),
                  resource=chance.choice([None, "r"]), source=chance.choice([None, "s"]))
            for key in keys[i : i + 20]
        ]  # fmt: skip
        put(session, tenant, rows, now=START + timedelta(days=i % 40))
    return keys


@pytest.mark.parametrize("direction", ["asc", "desc"])
@pytest.mark.parametrize("sort", ["recordedAt", "ts"])
@pytest.mark.parametrize("limit", [1, 7, 60])
def test_paging_visits_each_event_once_in_order(
    client: FlaskClient, tenant: str, sixty: list[str], sort: str, direction: str, limit: int
) -> None:
    asked = RANGE | {"sort": sort, "sortDir": direction, "limit": limit}
    seen: list[dict] = []
    page = listed(client, tenant, **asked)
    while True:
        assert page["total"] == 60
        assert len(page["events"]) <= limit
        seen += page["events"]
        if page["nextCursor"] is None:
            break
        page = listed(client, tenant, **asked, cursor=page["nextCursor"])
    assert sorted(event["id"] for event in seen) == sorted(sixty)
    instant = "recordedAt" if sort == "recordedAt" else "timestamp"
    places = [(event[instant], event["id"].encode()) for event in seen]
    assert places == sorted(places, reverse=direction == "desc")
    offset = listed(client, tenant, **(asked | {"offset": 50, "limit": 100}))
    assert ids(offset) == [event["id"] for event in seen[50:]]


def test_a_cursor_survives_what_arrives_meanwhile(
    client: FlaskClient, session: Session, tenant: str, sixty: list[str]
) -> None:
    first = listed(client, tenant, limit=30)
    put(session, tenant, [entry("new")], now=START + timedelta(days=60))
    rest = listed(client, tenant, limit=100, cursor=first["nextCursor"])
    assert sorted(ids(first) + ids(rest)) == sorted(sixty)


@pytest.mark.parametrize("alphabet", ["k", "é", "字", "😀"])
def test_a_cursor_behind_a_long_key_is_taken_back(
    client: FlaskClient, session: Session, tenant: str, alphabet: str
) -> None:
    # Were it escaped, a key of 255 letters that are not ASCII would outgrow the cursor's own limit.
    put(session, tenant, [entry(alphabet * 255), entry(alphabet * 254)])
    first = listed(client, tenant, limit=1)
    second = listed(client, tenant, limit=1, cursor=first["nextCursor"])
    assert sorted(ids(first) + ids(second)) == [alphabet * 254, alphabet * 255]


def test_filters_are_exact_and_combine(client: FlaskClient, tenant: str, sixty: list[str]) -> None:
    everything = listed(client, tenant, limit=100)["events"]
    names = {"metric": "a", "customerRef": "x", "resourceId": "r", "source": "s"}
    for chosen in ([name] for name in names):
        wanted = {name: names[name] for name in chosen}
        shown = listed(client, tenant, limit=100, **RANGE, **wanted)
        expected = [e["id"] for e in everything if all(e[n] == v for n, v in wanted.items())]
        assert 0 < len(expected) < 60
        assert (ids(shown), shown["total"]) == (expected, len(expected))
    together = listed(client, tenant, limit=100, **RANGE, **names)
    assert ids(together) == [e["id"] for e in everything if names.items() <= e.items()]


def test_the_start_is_in_and_the_end_is_not(
    client: FlaskClient, tenant: str, sixty: list[str]
) -> None:
    everything = listed(client, tenant, limit=100)["events"]
    span = {"startTime": "2026-11-01T01:00:00Z", "endTime": "2026-11-01T05:00:00+02:00"}
    shown = listed(client, tenant, limit=100, **span)
    assert {e["timestamp"] for e in shown["events"]} == {
        "2026-11-01T01:00:00Z", "2026-11-01T02:00:00Z",
    }  # fmt: skip
    assert shown["timeRange"]["end"] == "2026-11-01T03:00:00Z"
    assert shown["total"] == sum(
        "T01" in e["timestamp"] or "T02" in e["timestamp"] for e in everything
    )


def test_an_event_is_shown_as_it_was_sent(
    client: FlaskClient, session: Session, tenant: str
) -> None:
    sent = entry("k", "12345678901234567890.000000000001", "2026-11-01T00:00:00.000001+01:00",
                 resource="", meta='{"b":1.10,"a":[null]}', source="")  # fmt: skip
    put(session, tenant, [sent, entry("plain", "100.00")], now=START)
    shown = {event["id"]: event for event in listed(client, tenant)["events"]}
    assert shown["k"] == {
        "id": "k",
        "tenantId": tenant,
        "metric": "api_calls",
        "customerRef": "cus_1",
        "resourceId": "",
        "quantity": "12345678901234567890.000000000001",
        "timestamp": "2026-10-31T23:00:00.000001Z",
        "recordedAt": "2026-11-01T00:00:00Z",
        "meta": {"b": 1.10, "a": [None]},
        "source": "",
        "status": "unfolded",
    }
    assert (shown["plain"]["quantity"], shown["plain"]["meta"]) == ("100", None)
    assert [shown["plain"][n] for n in ("resourceId", "source")] == [None, None]


def test_each_status_is_told(client: FlaskClient, session: Session, tenant: str) -> None:
    put(session, tenant, [entry("counted"), entry("dead")])
    fold_all(session, tenant)
    dead = "INSERT INTO dead_letters VALUES (:t, 'dead', 'why', now())"
    session.execute(text(dead), {"t": tenant})
    closed = "UPDATE periods SET closes_at = now(), closed_at = now() WHERE tenant_id = :t"
    session.execute(text(closed), {"t": tenant})
    session.commit()
    put(session, tenant, [entry("late")])
    fold_all(session, tenant)
    put(session, tenant, [entry("waiting")])
    shown = {event["id"]: event["status"] for event in listed(client, tenant)["events"]}
    assert shown == {
        "counted": "counted", "dead": "dead_letter", "late": "set_aside", "waiting": "unfolded",
    }  # fmt: skip


def test_the_total_is_exact_to_ten_thousand(
    client: FlaskClient, session: Session, tenant: str
) -> None:
    put(session, tenant, [entry(f"k{i:05d}") for i in range(10_000)])
    shown = listed(client, tenant, limit=1)
    assert (shown["total"], shown["totalIsLowerBound"]) == (10_000, False)
    put(session, tenant, [entry("one more")])
    shown = listed(client, tenant, limit=1)
    assert (shown["total"], shown["totalIsLowerBound"]) == (10_000, True)


def test_a_customers_events_are_found_however_old(
    client: FlaskClient, session: Session, tenant: str
) -> None:
    put(session, tenant, [entry("old", ts="2025-01-16T14:30:00Z"), entry("gone", ts=START)])
    put(session, tenant, [entry("mine", ts="2025-03-01T00:00:00Z", customer="cus_2")])
    fold_all(session, tenant)
    shown = listed(client, tenant, customerRef="cus_2")
    assert ids(shown) == ["mine"]
    start, end = (datetime.fromisoformat(shown["timeRange"][name]) for name in ("start", "end"))
    assert end - start == timedelta(days=31)
    # Without a customer or an order by ts there is no such limit.
    assert sorted(ids(listed(client, tenant))) == ["gone", "mine", "old"]


def test_by_ts_the_latest_usage_is_found_however_old(
    client: FlaskClient, session: Session, tenant: str
) -> None:
    put(session, tenant, [entry("old", ts="2025-01-16T14:30:00Z")])
    fold_all(session, tenant)
    assert ids(listed(client, tenant, sort="ts")) == ["old"]


def cursor_of(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    ("asked", "pointer"),
    [
        ({"limit": 0}, "/limit"),
        ({"limit": 101}, "/limit"),
        ({"limit": "9" * 5000}, "/limit"),
        ({"limit": "x"}, "/limit"),
        ({"offset": -1}, "/offset"),
        ({"offset": 10_001}, "/offset"),
        ({"sort": "quantity"}, "/sort"),
        ({"sortDir": "up"}, "/sortDir"),
        ({"startTime": "now"}, "/startTime"),
        ({"startTime": "2026-11-01"}, "/startTime"),
        ({"startTime": RANGE["endTime"], "endTime": RANGE["startTime"]}, "/endTime"),
        ({"startTime": RANGE["endTime"], "endTime": RANGE["endTime"]}, "/endTime"),
        ({"metric": "a\0"}, "/metric"),
        ({"status": "counted"}, "/status"),
        ({"metric": ["a", "b"]}, "/metric"),
        ({"sort": "ts", "startTime": "2026-10-01T00:00:00Z", "endTime": "2026-11-01T00:00:01Z"},
         "/endTime"),
        ({"customerRef": "c", "startTime": "2025-10-01T00:00:00Z",
          "endTime": "2026-11-01T00:00:00Z"}, "/endTime"),
        ({"cursor": "x" * 100_000}, "/cursor"),
        *(
            ({"cursor": cursor}, "/cursor")
            for cursor in (
                "", "x", "é", "====", "AA==", incompressible(400, alphabet="abcdef0123456789"),
                cursor_of(1), cursor_of([]), cursor_of(["x", "k"]), cursor_of({"a": 1, "b": 2}),
                cursor_of(["2026-11-01T00:00:00", "k"]), cursor_of(["2026-11-01T00:00:00Z", 5]),
                cursor_of([5, "k"]),
                cursor_of(["2026-11-01T00:00:00Z", None]),
                base64.urlsafe_b64encode(b"[" * 740).decode(),
            )
        ),
    ],
)  # fmt: skip
def test_a_bad_question_is_refused(
    client: FlaskClient, tenant: str, asked: dict[str, object], pointer: str
) -> None:
    answer = client.get(EVENTS, query_string={"tenantId": tenant} | asked)
    assert_problem(answer, 422, pointer=pointer)


@pytest.mark.parametrize("key", ["a\0", "\ud800"])
def test_a_cursor_with_an_impossible_key_is_refused(
    client: FlaskClient, tenant: str, key: str
) -> None:
    cursor = cursor_of(["2026-11-01T00:00:00Z", key])
    answer = client.get(EVENTS, query_string={"tenantId": tenant, "cursor": cursor})
    assert_problem(answer, 422, pointer="/cursor")


@pytest.mark.parametrize("offset", ["+23:59", "-23:59", "+00:00:00.000001", "+15:59:59"])
def test_a_cursor_of_any_offset_breaks_nothing(
    client: FlaskClient, tenant: str, offset: str
) -> None:
    for year in ("0001", "2026", "9999"):
        cursor = cursor_of([f"{year}-12-31T23:59:59{offset}", "k"])
        answer = client.get(EVENTS, query_string={"tenantId": tenant, "cursor": cursor})
        assert answer.status_code in (200, 422)
