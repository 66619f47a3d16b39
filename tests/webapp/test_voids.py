"""POST /v1/events/void and restore: one event out of every total, and back."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from metering.catalog import metrics
from metering.database import unit_of_work
from tests.support import entry, fold_all, put
from tests.webapp.support import assert_problem, bearer

NOW = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.fixture
def used(session: Session, tenant: str) -> str:
    events = [
        entry("a", 10, "2026-11-10T12:00:00Z", resource="r1"),
        entry("b", 50, "2026-11-10T13:00:00Z", resource="r2"),
        entry("c", 5, "2026-11-11T12:00:00Z", resource="r1"),
    ]
    with unit_of_work(session):
        metrics.edit(session, tenant, "api_calls", {"unique_enabled": True}, now=NOW)
    put(session, tenant, events, now=NOW)
    fold_all(session, tenant)
    return tenant


def say(client: FlaskClient, what: str, tenant: str, name: str, **more: Any) -> TestResponse:
    body = {"tenantId": tenant, "id": name, "reason": "sent twice"} | more
    return client.post(f"/v1/events/{what}", json=body)


def status(client: FlaskClient, tenant: str) -> dict[str, str]:
    found = client.get("/v1/events", query_string={"tenantId": tenant}).get_json()["events"]
    return {each["id"]: each["status"] for each in found}


@pytest.mark.parametrize(
    ("aggregation", "event", "without", "whole"),
    [("sum", "b", "15", "65"), ("count", "b", "2", "3"), ("max", "b", "10", "50"),
     ("last", "c", "50", "5"), ("unique", "b", "1", "2")],
)  # fmt: skip
def test_a_voided_event_counts_nowhere_and_can_be_restored(
    client: FlaskClient, session: Session, used: str, aggregation: str, event: str,
    without: str, whole: str,
) -> None:  # fmt: skip
    with unit_of_work(session):
        metrics.edit(session, used, "api_calls", {"aggregation": aggregation}, now=NOW)
    first = say(client, "void", used, event).get_json()
    assert (first["status"], first["total"]) == ("voided", without)
    assert (first["reason"], first["actor"]) == ("sent twice", "sandbox")
    assert first["period"] == {"start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z"}
    assert status(client, used) == dict.fromkeys("abc", "counted") | {event: "voided"}
    again = say(client, "void", used, event, reason="another")
    assert again.get_json() == first
    back = say(client, "restore", used, event, reason="it was right").get_json()
    assert (back["status"], back["total"], back["reason"]) == ("counted", whole, "it was right")
    assert [step["action"] for step in back["steps"]] == ["void", "restore"]
    assert set(status(client, used).values()) == {"counted"}
    assert_problem(say(client, "restore", used, event), 409)


def test_a_waiting_event_is_counted_first(client: FlaskClient, session: Session, used: str) -> None:
    put(session, used, [entry("d", 1, "2026-11-12T12:00:00Z")], now=NOW)
    assert status(client, used)["d"] == "unfolded"
    assert say(client, "void", used, "d").get_json()["total"] == "65"


def test_what_is_not_there_or_not_said_is_refused(client: FlaskClient, used: str) -> None:
    assert_problem(say(client, "void", used, "nothing"), 404)
    assert_problem(say(client, "restore", used, "nothing"), 404)
    assert_problem(say(client, "void", used, "a", reason=""), 422, pointer="/reason")
    assert_problem(say(client, "void", used, "a", reason="x" * 2001), 422, pointer="/reason")


def test_the_keys_own_name_stands_with_what_it_did(shut: FlaskClient, used: str, key: str) -> None:
    body = {"id": "a", "reason": "sent twice"}
    told = shut.post("/v1/events/void", json=body, headers=bearer(key)).get_json()
    assert told["actor"].startswith("key:")


def test_pressed_by_several_at_once_it_is_voided_once(client: FlaskClient, used: str) -> None:
    people = 4
    barrier = Barrier(people)

    def press(_: int) -> TestResponse:
        own = client.application.test_client()
        barrier.wait()
        return say(own, "void", used, "b")

    with ThreadPoolExecutor(people) as pool:
        answers = [answer.get_json() for answer in pool.map(press, range(people))]
    assert {answer["total"] for answer in answers} == {"15"}
    assert [len(answer["steps"]) for answer in answers] == [1] * people
