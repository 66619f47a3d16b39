"""The back-test's pages without a browser: asked, refused beside the field, walled, cancelled."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import urlencode

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from metering.billing import backtest, simulations
from metering.database import unit_of_work
from metering.tenancy import console
from tests.backtests import BASELINE, CANDIDATE, some_usage, use
from tests.webapp.support import AppMaker, Clock, connections_in_use, row_counts
from webapp.queues import Hints

ROOT = "/simulator/backtest"
AUGUST = datetime(2026, 8, 12, tzinfo=UTC)
STATE = {
    "currency": "usd",
    "a-name": "Today", "a-model": "per_unit", "a-unit": "0.01",
    "b-name": "New", "b-model": "graduated", "b-0-to": "1000", "b-0-unit": "0.012",
    "b-1-unit": "0.008",
}  # fmt: skip


@pytest.fixture(autouse=True)
def hinted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    monkeypatch.setattr(Hints, "answer_backtest", lambda _, *which: found.append(which))
    return found


@pytest.fixture(scope="module")
def august(make_app: AppMaker) -> Flask:
    return make_app(clock=Clock(AUGUST), sandbox=False)


def signed_in(app: Flask, session: Session, tenant: str, role: str) -> FlaskClient:
    client = app.test_client()
    with unit_of_work(session):
        token = console.make_link(session, tenant, role, now=AUGUST)
    assert client.post("/console/enter", data={"token": token}).status_code == 303
    return client


@pytest.fixture
def finance(august: Flask, session: Session, tenant: str) -> FlaskClient:
    return signed_in(august, session, tenant, "finance")


def csrf(client: FlaskClient) -> str:
    found = re.search(r'name="csrf_token" value="([0-9a-f]{64})"', client.get("/simulator").text)
    assert found
    return found[1]


def ask(client: FlaskClient, *, state: dict[str, str] | None = None, **fields: str) -> str:
    data = {
        "state": urlencode(STATE if state is None else state),
        "csrf_token": csrf(client),
        "from": "2026-05",
        "to": "2026-07",
        "baseline-0": "a",
        "candidate-0": "b",
    }
    answer = client.post(ROOT, data=data | {n.replace("_", "-"): v for n, v in fields.items()})
    return answer.headers["Location"] if answer.status_code == 303 else answer.text


def finish(session: Session, tenant: str, where: str) -> None:
    more = True
    while more:
        with unit_of_work(session):
            more = backtest.advance(session, tenant, where.rpartition("/")[2], now=AUGUST)


def test_from_a_comparison_to_the_answer(
    finance: FlaskClient, session: Session, tenant: str, hinted: list[tuple[str, str]]
) -> None:
    use(session, tenant, some_usage(50))
    offered = finance.get(ROOT, query_string=STATE).text
    for text in (
        "api_calls",
        "Today",
        "New",
        "Aug 2026, so far",
        '<option value="2026-05" selected>May 2026</option>',
    ):
        assert text in offered
    where = ask(finance)
    assert hinted == [(tenant, where.rpartition("/")[2])]
    waiting = finance.get(where).text
    assert "Waiting to begin" in waiting
    assert 'hx-trigger="every 1s"' in waiting
    assert "look again" in waiting
    finish(session, tenant, where)
    done = finance.get(where).text
    assert re.search(r"Revenue goes from \$[0-9,.]+ to \$[0-9,.]+: ", done)
    for text in ("Pay less", "Pay more", "Most affected", "May 2026 to Jul 2026 (3 months)",
                 "New (graduated)", "Today (per unit)", "read by", "hx-trigger"):  # fmt: skip
        assert (text.lower() in done.lower()) == (text != "hx-trigger")
    csv = finance.get(f"{where}/customers.csv")
    assert csv.text.startswith("customerRef,currency,periods,before,after,change,changePercent\r\n")
    assert connections_in_use(finance.application) == 0
    listed = finance.get(ROOT).text
    assert "New instead of Today" in listed
    assert re.search(r"\$[0-9,.]+ → \$[0-9,.]+", listed)


def test_a_saved_comparison_can_be_tried(
    finance: FlaskClient, session: Session, tenant: str
) -> None:
    use(session, tenant, {})
    with unit_of_work(session):
        saved = simulations.save(
            session, tenant, name="Spring", kind="comparison", created_by="t", now=AUGUST,
            document={"currency": "usd", "prices": [{"name": "Old", "priceConfig": BASELINE},
                                                    {"name": "Next", "priceConfig": CANDIDATE}]},
        )  # fmt: skip
        identifier = saved.id
    assert f"saved={identifier}" in finance.get(ROOT).text
    offered = finance.get(ROOT, query_string={"saved": identifier}).text
    assert ("Old" in offered, "Next" in offered) == (True, True)
    assert finance.get(ROOT, query_string={"saved": "nope"}).status_code == 404


@pytest.mark.parametrize(
    ("fields", "typed", "field", "said"),
    [
        ({"from": "2026-07", "to": "2026-05"}, {}, "months", "lies before the first"),
        ({"candidate_0": ""}, {}, "rows", "at least one metric"),
        ({"baseline_0": "mapped"}, {}, "baseline-0", "no price is mapped"),
        ({}, {"b-1-unit": "x"}, "candidate-0", "has a mistake"),
        ({}, {"a-unit": "-1"}, "baseline-0", "has a mistake"),
    ],
)
def test_a_mistake_stands_beside_its_field_and_nothing_is_written(
    finance: FlaskClient,
    session: Session,
    tenant: str,
    fields: dict[str, str],
    typed: dict[str, str],
    field: str,
    said: str,
) -> None:
    use(session, tenant, {})
    before = row_counts(session)
    shown = ask(finance, state=STATE | typed, **fields)
    beside = re.search(rf'id="error-{field}">([^<]*)<', shown)
    assert beside, shown
    assert said in beside[1]
    assert row_counts(session) == before


def test_without_usage_the_page_says_what_will_be_there(finance: FlaskClient) -> None:
    assert "has no usage yet" in finance.get(ROOT, query_string=STATE).text
    assert "Build them in the simulator" in finance.get(ROOT).text


def test_it_is_cancelled_and_forgotten(finance: FlaskClient, session: Session, tenant: str) -> None:
    use(session, tenant, some_usage(3))
    where, token = ask(finance), {"csrf_token": csrf(finance)}
    assert finance.post(f"{where}/end", data=token).headers["Location"] == where
    assert "It was cancelled" in finance.get(where).text
    assert finance.get(f"{where}/customers.csv").status_code == 409
    assert finance.post(f"{where}/end", data=token).headers["Location"] == ROOT
    assert finance.get(where).status_code == 404


def test_a_failed_one_says_why(finance: FlaskClient, session: Session, tenant: str) -> None:
    use(session, tenant, {("zoo", "2026-05"): Decimal("1" * 119 + ".001")})
    where = ask(finance)
    finish(session, tenant, where)
    shown = finance.get(where).text
    assert "It could not be answered" in shown
    assert "api_calls of zoo" in shown


def test_it_is_the_tenants_own(
    finance: FlaskClient, august: Flask, session: Session, tenant: str, stranger: str
) -> None:
    use(session, tenant, some_usage(3))
    where = ask(finance)
    finish(session, tenant, where)
    other = signed_in(august, session, stranger, "operator")
    for path in (where, f"{where}/customers.csv"):
        answer = other.get(path)
        assert answer.status_code == 404
        assert "New instead" not in answer.text
    assert other.post(f"{where}/end", data={"csrf_token": csrf(other)}).status_code == 404
    assert "New instead" not in other.get(ROOT).text
    support = signed_in(august, session, tenant, "support")
    assert support.get(where).status_code == 200
    assert "may read back-tests but not ask" in support.get(ROOT, query_string=STATE).text
    assert support.post(ROOT, data={"csrf_token": csrf_of(support)}).status_code == 403
    nobody = august.test_client()
    assert nobody.get(where).status_code == 401


def csrf_of(client: FlaskClient) -> str:
    """A reader's token, from the console: the simulator offers a reader no form."""
    found = re.search(r'name="csrf_token" value="([0-9a-f]{64})"', client.get("/console").text)
    assert found
    return found[1]
