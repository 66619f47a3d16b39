"""/v1/simulations/backtests: asked, answered, paged, exported, cancelled."""

import csv
import io
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from metering.billing import backtest
from metering.database import unit_of_work
from tests.backtests import BASELINE, CANDIDATE, MONTHS, answered, some_usage, use
from tests.webapp.support import assert_problem, bearer
from webapp import csv_export
from webapp.queues import Hints
from webapp.simulations import presenters

ROOT = "/v1/simulations/backtests"
ASKED: dict[str, Any] = {
    "name": "Summer",
    "months": list(MONTHS),
    "metrics": [{"metric": "api_calls", "baseline": BASELINE, "candidate": CANDIDATE}],
}


@pytest.fixture
def me(shut: FlaskClient, key: str) -> FlaskClient:
    """The tenant with its key."""
    shut.environ_base["HTTP_AUTHORIZATION"] = bearer(key)["Authorization"]
    return shut


@pytest.fixture(autouse=True)
def hinted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is enqueued."""
    found: list[tuple[str, str]] = []
    monkeypatch.setattr(Hints, "answer_backtest", lambda _, *which: found.append(which))
    return found


def ask(client: FlaskClient, **changes: Any) -> dict[str, Any]:
    answer = client.post(ROOT, json=ASKED | changes)
    assert answer.status_code == 201, answer.text
    return answer.get_json()


def finish(session: Session, tenant: str, backtest_id: str, now: datetime) -> None:
    more = True
    while more:
        with unit_of_work(session):
            more = backtest.advance(session, tenant, backtest_id, now=now)


def test_from_the_question_to_the_answer(
    me: FlaskClient, session: Session, tenant: str, now: datetime, hinted: list[tuple[str, str]]
) -> None:
    usage = some_usage(50)
    use(session, tenant, usage)
    made = ask(me)
    assert hinted == [(tenant, made["id"])]
    assert (made["state"], made["result"], made["currency"]) == ("queued", None, "usd")
    assert made["progress"] == {"customersDone": 0, "customersTotal": None, "percent": None}
    with unit_of_work(session):
        backtest.begin(session, tenant, made["id"], now=now)
    finish(session, tenant, made["id"], now)
    found = me.get(f"{ROOT}/{made['id']}").get_json()
    assert (found["state"], found["progress"]["percent"]) == ("done", 100)
    expected, result = answered(usage), found["result"]
    before, after = (sum(each[i] for each in expected.values()) for i in (0, 1))
    assert (result["beforeMinor"], result["afterMinor"]) == (before, after)
    assert result["winners"]["customers"] + result["losers"]["customers"] + result[
        "unchanged"
    ] == len(expected)
    assert sum(each["customers"] for each in result["distribution"]) == len(expected)
    assert sum(each["changeMinor"] for each in result["distribution"]) == after - before
    assert len(result["mostAffected"]) == 20
    assert result["sentence"].startswith(f"Revenue goes from ${Decimal(before) / 100:,.2f} to ")
    listed = me.get(ROOT).get_json()
    assert [each["id"] for each in listed["backtests"]] == [made["id"]]


def test_the_sentence_says_what_changes() -> None:
    def said(before: int, after: int) -> str:
        summary = backtest.Summary()
        summary.add(backtest.Outcome("c", before, after, 1))
        return presenters.sentence(summary, presenters.money.currency("usd"))

    assert said(123_456_00, 150_000_00) == (
        "Revenue goes from $123,456.00 to $150,000.00: $26,544.00 (21.5 %) more."
    )
    assert said(10_000, 9_995).endswith("$99.95: $0.05 (0.1 %) less.")
    assert said(0, 5) == "Revenue goes from $0.00 to $0.05: $0.05 more."
    assert said(5, 5).startswith("Revenue stays at $0.05")
    assert "no price makes a difference" in presenters.sentence(
        backtest.Summary(), presenters.money.currency("usd")
    )


def test_customers_are_paged_in_every_order(
    me: FlaskClient, session: Session, tenant: str, now: datetime
) -> None:
    usage = some_usage(30)
    use(session, tenant, usage)
    made = ask(me)
    finish(session, tenant, made["id"], now)
    changes = {ref: after - before for ref, (before, after, _) in answered(usage).items()}
    for order in ("customer", "increase", "decrease"):
        rows: list[dict[str, Any]] = []
        query: dict[str, Any] = {"limit": 7, "order": order}
        while True:
            page = me.get(f"{ROOT}/{made['id']}/customers", query_string=query).get_json()
            rows += page["customers"]
            if page["nextCursor"] is None:
                break
            query["cursor"] = page["nextCursor"]
        assert {row["customerRef"]: row["changeMinor"] for row in rows} == changes
        found = [row["changeMinor"] for row in rows]
        if order != "customer":
            assert found == sorted(found, reverse=order == "increase")
    forged = {"order": "increase", "cursor": "WyJOYU4iLCJhIl0="}
    assert_problem(me.get(f"{ROOT}/{made['id']}/customers", query_string=forged), 422)


def test_the_csv_has_every_customer_and_no_formula(
    me: FlaskClient, session: Session, tenant: str, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = '=HYPERLINK("http://x","y")'
    refs = [evil, "@a", "+b", "-c", 'say "hi", you', "ünï\ncode", *(f"cus_{i}" for i in range(30))]
    use(session, tenant, {(ref, "2026-05"): Decimal(1000) for ref in refs})
    made = ask(me)
    finish(session, tenant, made["id"], now)
    answer = me.get(f"{ROOT}/{made['id']}/export.csv")
    assert answer.mimetype == "text/csv"
    assert "attachment" in answer.headers["Content-Disposition"]
    header, *rows = list(csv.reader(io.StringIO(answer.text, newline="")))
    assert tuple(header) == presenters.CSV_HEADER
    assert {row[0].removeprefix("'") for row in rows} == set(refs)
    assert len(rows) == len(refs)
    assert not [row for row in rows if row[0].startswith(("=", "+", "-", "@"))]
    assert rows[-1][1:] == ["usd", "1", "10.00", "12.00", "2.00", "20"]


@pytest.mark.parametrize(
    ("value", "text"),
    [("=1", "'=1"), ("@x", "'@x"), ("\t=1", "'\t=1"), ("a=1", "a=1"), (None, ""),
     (Decimal("-1.50"), "-1.50"), (Decimal("1E-7"), "0.0000001"), (-3, "-3"), ("-3", "'-3")],
)  # fmt: skip
def test_a_cell_is_text_or_a_number_and_never_a_formula(value: object, text: str) -> None:
    assert csv_export.cell(value) == text
    assert list(csv_export.lines(["h"], [])) == ["h\r\n"]


def test_deleting_cancels_what_waits_and_forgets_what_has_ended(
    me: FlaskClient, session: Session, tenant: str, now: datetime
) -> None:
    use(session, tenant, some_usage(3))
    path = f"{ROOT}/{ask(me)['id']}"
    for part in ("/customers", "/export.csv"):
        assert_problem(me.get(path + part), 409)
    assert me.delete(path).status_code == 204
    assert me.get(path).get_json()["state"] == "cancelled"
    assert me.delete(path).status_code == 204
    assert_problem(me.get(path), 404)
    assert_problem(me.delete(path), 404)


def refused(client: FlaskClient, **changes: Any) -> TestResponse:
    return client.post(ROOT, json=ASKED | changes)


EURO = BASELINE | {"currency": "eur"}


@pytest.mark.parametrize(
    ("changes", "status", "pointer"),
    [
        ({"metrics": []}, 422, "/metrics"),
        ({"metrics": [{"metric": "api_calls", "baseline": BASELINE, "candidate": EURO}]}, 422,
         "/metrics/0/candidate/currency"),
        ({"metrics": [{"metric": "api_calls", "baseline": {"model": "x", "currency": "usd"},
          "candidate": BASELINE}]}, 422, "/metrics/0/baseline/model"),
        ({"metrics": [{"metric": "api_calls", "baseline": "mapped", "candidate": BASELINE}]}, 422,
         "/metrics/0/baseline"),
        ({"metrics": [{"metric": "none", "baseline": BASELINE, "candidate": BASELINE}]}, 404, None),
        ({"months": ["2026-13"]}, 422, "/months/0"),
        ({"months": ["2026-05\n"]}, 422, "/months/0"),
        ({"since": "2026-05-01T00:00:00Z"}, 422, "/months"),
        ({"months": None}, 422, "/months"),
        ({"name": "x" * 201}, 422, "/name"),
    ],
)  # fmt: skip
def test_a_question_without_an_answer_is_refused(
    me: FlaskClient, session: Session, tenant: str, changes: Any, status: int, pointer: str | None
) -> None:
    use(session, tenant, {})
    assert_problem(refused(me, **changes), status, pointer=pointer)


def test_months_by_their_span_or_the_last_three(
    me: FlaskClient, session: Session, tenant: str
) -> None:
    use(session, tenant, {})
    body = {name: value for name, value in ASKED.items() if name != "months"}
    assert len(me.post(ROOT, json=body).get_json()["months"]) == 3
    span = {"since": "2026-04-02T00:00:00Z", "until": "2026-07-01T00:00:00Z"}
    assert me.post(ROOT, json=body | span).get_json()["months"] == ["2026-05", "2026-06"]
    short = {"since": "2026-04-02T00:00:00Z", "until": "2026-04-03T00:00:00Z"}
    assert_problem(me.post(ROOT, json=body | short), 422, pointer="/since")
    assert_problem(me.post(ROOT, json=body | {"until": span["until"]}), 422, pointer="/since")


def test_a_named_question_is_asked_once(
    me: FlaskClient, session: Session, tenant: str, hinted: list[tuple[str, str]]
) -> None:
    use(session, tenant, {})
    asked = [me.post(ROOT, json=ASKED, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert [each.status_code for each in asked] == [201, 201]
    assert asked[0].get_json() == asked[1].get_json()
    assert len(hinted) == 1
    other = me.post(ROOT, json=ASKED | {"name": "o"}, headers={"Idempotency-Key": "k"})
    assert_problem(other, 422, pointer="/Idempotency-Key")


def test_a_refused_question_enqueues_nothing(
    app: Flask, me: FlaskClient, hinted: list[tuple[str, str]]
) -> None:
    assert refused(me).status_code == 404
    assert hinted == []
