"""POST /v1/replay: what it says, that a dry run is the default, and whose a cursor is."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from metering.counters import replay as counted
from metering.database import unit_of_work
from tests.support import counters, entry, fold_all, put
from tests.webapp.support import assert_problem, bearer, make_key, stored
from webapp import cursor
from webapp.replay import views

MONTH = {"since": "2026-11-01T00:00:00Z", "until": "2026-12-01T00:00:00Z"}


def replay(client: FlaskClient, tenant: str, **asked: Any) -> TestResponse:
    return client.post("/v1/replay", json={"tenantId": tenant, **asked})


def good(answer: TestResponse) -> dict[str, Any]:
    assert answer.status_code == 200, answer.get_data(as_text=True)
    body: dict[str, Any] = answer.get_json()
    return body


@pytest.fixture
def wrong(session: Session, tenant: str) -> dict[Any, Any]:
    """Ten events of 1 to 10, of which the 3 and the 4 were lost; what is right."""
    put(session, tenant, [entry(f"a{i}", i, f"2026-11-{i:02d}T10:20:30Z") for i in range(1, 11)])
    fold_all(session, tenant)
    right = counters(session, tenant)
    with unit_of_work(session):
        for statement in (
            "DELETE FROM segments WHERE tenant_id = :t AND segment_start >= '2026-11-03Z'"
            " AND segment_start < '2026-11-05Z'",
            "UPDATE counters SET sum_value = 48, event_count = 8 WHERE tenant_id = :t",
        ):
            session.execute(text(statement), {"t": tenant})
    return right


def test_the_contracts_call_works_as_it_is_printed(client: FlaskClient) -> None:
    """Of a tenant that nobody has heard of there is nothing to say, and it is not made."""
    answer = client.post(
        "/v1/replay", data='{"tenantId":"X","dryRun":true}', content_type="application/json"
    )
    body = good(answer)
    assert (body["mode"], body["tenantId"], body["metrics"]) == ("dry-run", "X", [])
    assert body["changes"] == {}
    assert body["cursor"] is None
    assert body["watermark"] is None
    assert "applied" not in body


def test_a_dry_run_says_exactly_what_an_apply_then_does(
    client: FlaskClient, session: Session, tenant: str, wrong: dict[Any, Any]
) -> None:
    before = stored(session, tenant)
    dry = good(replay(client, tenant, **MONTH))
    assert stored(session, tenant) == before
    assert dry["changes"] == {
        "api_calls": {
            "eventsFound": 10, "lateEvents": 0, "counterDelta": "7", "affectedCustomers": 1,
        }
    }  # fmt: skip
    assert dry["customers"] == [
        {
            "customerRef": "cus_1", "metric": "api_calls", "aggregation": "sum",
            "period": {"start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z"},
            "before": "48", "after": "55", "delta": "7", "currency": None,
            "amountBefore": None, "amountBeforeMinor": None,
            "amountAfter": None, "amountAfterMinor": None,
            "warning": "no price is mapped to this metric in the period",
        }
    ]  # fmt: skip
    assert dry["timeRange"] == {"start": MONTH["since"], "end": MONTH["until"]}
    assert dry["watermark"] == "2026-11-10T10:20:30Z"
    assert "1 customer would change" in dry["summary"]
    applied = good(replay(client, tenant, **MONTH, mode="apply"))
    assert applied.pop("applied") == {"segments": 2, "counters": 1, "members": 0}
    assert "1 customer changed" in applied.pop("summary")
    assert applied | {"mode": "dry-run"} == {k: v for k, v in dry.items() if k != "summary"}
    assert counters(session, tenant) == wrong
    again = good(replay(client, tenant, **MONTH, dryRun=False))
    assert again["applied"] == {"segments": 0, "counters": 0, "members": 0}
    assert again["customers"] == []
    assert "every counter of an open period is right" in again["summary"]


def test_both_names_of_a_dry_run_mean_the_same(client: FlaskClient, tenant: str) -> None:
    for asked, mode in (
        ({}, "dry-run"),
        ({"dryRun": True}, "dry-run"),
        ({"mode": "dry-run"}, "dry-run"),
        ({"dryRun": False}, "apply"),
        ({"mode": "apply", "dryRun": False}, "apply"),
        ({"mode": None, "dryRun": None}, "dry-run"),
    ):
        assert good(replay(client, tenant, **asked))["mode"] == mode
    assert_problem(replay(client, tenant, mode="apply", dryRun=True), 422, pointer="/dryRun")


@pytest.mark.parametrize(
    ("asked", "status", "pointer"),
    [
        ({"mode": "maybe"}, 422, "/mode"),
        ({"dryRun": "true"}, 422, "/dryRun"),
        ({"metrics": []}, 422, "/metrics"),
        ({"metrics": ["no such metric"]}, 404, None),
        ({"since": "yesterday"}, 422, "/since"),
        ({"since": "now", "until": "-PT5H"}, 422, "/until"),
        ({"cursor": "none of ours"}, 422, "/cursor"),
        ({"customerRef": ""}, 422, "/customerRef"),
        ({"dry_run": True}, 422, "/dry_run"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    client: FlaskClient, tenant: str, asked: dict[str, Any], status: int, pointer: str | None
) -> None:
    assert_problem(replay(client, tenant, **asked), status, pointer=pointer)


def test_a_range_is_widened_to_whole_hours(client: FlaskClient, tenant: str) -> None:
    asked = {"since": "2026-11-03T10:30:00+02:00", "until": "2026-11-03T12:00:00.000001Z"}
    assert good(replay(client, tenant, **asked))["timeRange"] == {
        "start": "2026-11-03T08:00:00Z", "end": "2026-11-03T13:00:00Z",
    }  # fmt: skip


@pytest.fixture
def paged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is one day."""
    monkeypatch.setattr(views, "SECONDS", 0.0)
    monkeypatch.setattr(counted, "_FIRST", timedelta(days=1))
    monkeypatch.setattr(counted, "_QUICK", 0.0)
    monkeypatch.setattr(counted, "_SLOW", 60.0)


@pytest.mark.usefixtures("paged")
def test_a_long_range_is_walked_by_its_cursor(
    client: FlaskClient, session: Session, tenant: str, wrong: dict[Any, Any]
) -> None:
    asked, pages = {**MONTH, "mode": "apply"}, []
    while True:
        pages.append(good(replay(client, tenant, **asked)))
        if pages[-1]["cursor"] is None:
            break
        assert "go on with the cursor" in pages[-1]["summary"]
        asked["cursor"] = pages[-1]["cursor"]
    assert len(pages) == 31
    assert sum(page["changes"]["api_calls"]["eventsFound"] for page in pages) == 10
    assert sum(page["applied"]["segments"] for page in pages) == 2
    assert counters(session, tenant) == wrong


@pytest.mark.usefixtures("paged")
def test_a_cursor_is_of_its_question_only(
    client: FlaskClient, tenant: str, stranger: str, wrong: dict[Any, Any]
) -> None:
    first = good(replay(client, tenant, **MONTH))
    mine = {**MONTH, "cursor": first["cursor"]}
    assert good(replay(client, tenant, **mine))["cursor"] != first["cursor"]
    for changed in (
        {"mode": "apply"},
        {"dryRun": False},
        {"customerRef": "cus_1"},
        {"metrics": ["api_calls"]},
        {"since": "2026-11-02T00:00:00Z"},
        {"until": None},
    ):
        assert_problem(replay(client, tenant, **mine | changed), 422, pointer="/cursor")
    assert_problem(replay(client, stranger, **mine), 422, pointer="/cursor")
    parts = cursor.read(first["cursor"], 7)
    for index in range(7):
        altered = [*parts[:index], parts[index][:-1] + "1", *parts[index + 1 :]]
        answer = replay(client, tenant, **mine | {"cursor": cursor.write(altered)})
        assert_problem(answer, 422, pointer="/cursor")


@pytest.mark.usefixtures("paged")
def test_the_default_range_stays_what_the_first_page_said(
    client: FlaskClient, tenant: str, wrong: dict[Any, Any]
) -> None:
    first = good(replay(client, tenant))
    second = good(replay(client, tenant, cursor=first["cursor"]))
    assert second["timeRange"] == first["timeRange"]


def test_a_replay_is_of_ones_own_tenant(
    shut: FlaskClient, session: Session, tenant: str, wrong: dict[Any, Any], strangers_key: str,
    now: datetime,
) -> None:  # fmt: skip
    before = stored(session, tenant)
    asked = {**MONTH, "mode": "apply"}
    answer = shut.post(
        "/v1/replay", json={"tenantId": tenant, **asked}, headers=bearer(strangers_key)
    )
    assert_problem(answer, 403, pointer="/tenantId")
    own = good(shut.post("/v1/replay", json=asked, headers=bearer(strangers_key)))
    assert own["customers"] == []
    reading = make_key(session, tenant, ["events:read", "usage:read"], now=now)
    assert_problem(shut.post("/v1/replay", json=MONTH, headers=bearer(reading)), 403)
    assert {k: v for k, v in stored(session, tenant).items() if k != "api_keys"} == {
        k: v for k, v in before.items() if k != "api_keys"
    }


def test_what_a_closed_period_lacks_is_said_and_left(
    client: FlaskClient, session: Session, tenant: str, wrong: dict[Any, Any]
) -> None:
    with unit_of_work(session):
        session.execute(
            text("UPDATE periods SET closes_at = '2026-12-03Z', closed_at = '2026-12-03Z'"
                 " WHERE tenant_id = :t"), {"t": tenant},
        )  # fmt: skip
    before = stored(session, tenant)
    body = good(replay(client, tenant, **MONTH, mode="apply"))
    assert stored(session, tenant) == before
    [closed] = body["closed"]
    assert (closed["segments"], closed["events"], closed["quantity"]) == (2, 2, "7")
    assert "never changes" in closed["reason"]
    assert "1 closed period differs and stays as it is" in body["summary"]


def test_an_apply_may_be_sent_twice_at_once(
    client: FlaskClient, session: Session, tenant: str, wrong: dict[Any, Any]
) -> None:
    """No `Idempotency-Key` is needed: what it makes is a state."""
    key = {"Idempotency-Key": "k"}
    for expected in (2, 0):
        answer = client.post(
            "/v1/replay", json={"tenantId": tenant, **MONTH, "mode": "apply"}, headers=key
        )
        assert good(answer)["applied"]["segments"] == expected
    assert counters(session, tenant) == wrong
