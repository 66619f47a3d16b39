"""The console's pages about adjustments, without a browser: words, buttons, forms and walls."""

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from metering.catalog import metrics
from metering.database import unit_of_work
from metering.tenancy import console
from tests.support import entry, fold_all, put
from tests.webapp.support import AppMaker, Clock, bearer, make_key, stored
from tests.webapp.test_adjustments import NOW, Books

PAGE = "/console/adjustments"
OWN = {"Origin": "http://localhost"}
SignIn = Callable[[str], FlaskClient]


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture(scope="module")
def api(make_app: AppMaker, clock: Clock) -> FlaskClient:
    return make_app(clock, sandbox=True).test_client()


@pytest.fixture(scope="module")
def closed_app(make_app: AppMaker, clock: Clock) -> Flask:
    return make_app(clock, sandbox=False)


@pytest.fixture
def books(session: Session, api: FlaskClient, tenant: str) -> Books:
    return Books(session, api, tenant)


@pytest.fixture
def sign_in(closed_app: Flask, session: Session, books: Books) -> SignIn:
    """A browser that is signed in to the tenant with a role."""

    def enter(role: str) -> FlaskClient:
        client = closed_app.test_client()
        with unit_of_work(session):
            token = console.make_link(session, books.tenant, role, now=NOW)
        client.post("/console/enter", data={"token": token})
        return client

    return enter


def text_of(client: FlaskClient, path: str = PAGE, **query: object) -> str:
    """The page as one reads it: no tags, single spaces."""
    answer = client.get(path, query_string=query)
    assert answer.status_code == 200, answer.text
    return plain(answer.text)


def plain(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def token_of(page: str) -> dict[str, str]:
    found = re.search(r'name="csrf_token" value="(\w+)"', page)
    assert found
    return {"csrf_token": found[1]}


def buttons(page: str) -> dict[str, bool]:
    """The decisions that are offered, and whether each can be pressed."""
    found = re.findall(r'<button name="decision" value="(\w+)"([^>]*)>', page)
    return {value: "disabled" not in rest for value, rest in found}


def press(client: FlaskClient, known: str, decision: str, **form: str) -> Any:
    page = client.get(f"{PAGE}/{known}").text
    data = token_of(page) | {"decision": decision} | form
    return client.post(f"{PAGE}/{known}/decide", data=data)


def test_the_first_line_says_what_waits_and_the_money(books: Books, sign_in: SignIn) -> None:
    finance = sign_in("finance")
    assert "No decision waits." in text_of(finance)
    books.late(20, 4)
    page = text_of(finance)
    assert "1 decision waits: 24 late units, $12.00 at stake." in page
    assert "Adjustments : 1 decision waits: 24 late units" in text_of(finance, "/console")
    books.delta("-20")
    page = text_of(finance)
    assert "2 decisions wait: 24 late units, 1 made by hand, $22.00 at stake." in page
    assert "+$12.00" in page
    assert "\u2212$10.00" in page


def test_of_several_metrics_events_are_added_up_and_not_units(
    books: Books, sign_in: SignIn, session: Session
) -> None:
    books.late(20)
    late = {"late_policy": "age", "lateness_seconds": 0}
    with unit_of_work(session):
        metrics.edit(session, books.tenant, "tokens", late, now=NOW)
    put(session, books.tenant, [entry("t", 7, NOW.replace(day=1), metric="tokens")], now=NOW)
    fold_all(session, books.tenant)
    page = text_of(sign_in("support"))
    assert "2 decisions wait: 2 late events, at least $10.00 at stake." in page
    assert "no price is mapped to this metric" in page


def test_the_list_is_filtered_sorted_and_paged(books: Books, sign_in: SignIn) -> None:
    client = sign_in("finance")
    for number in range(30):
        books.delta(str(number + 1))
    page = client.get(PAGE, query_string={"sort": "stake"}).text
    amounts = re.findall(r'<strong class="amount">([^<]*)', page)
    assert amounts[:2] == ["+$15.00", "+$14.50"]
    assert len(amounts) == 25
    [following] = re.findall(r'href="([^"]*)" rel="next"', page)
    rest = client.get(unescape(following)).text
    assert len(re.findall(r'<strong class="amount">', rest)) == 5
    newest = client.get(PAGE).text
    [following] = re.findall(r'href="([^"]*)" rel="next"', newest)
    ids = re.findall(r"/console/adjustments/(adj_\w+)", newest)
    ids += re.findall(r"/console/adjustments/(adj_\w+)", client.get(unescape(following)).text)
    assert len(set(ids)) == 30
    assert "There is none of this customer" in text_of(client, customer="cus_2")
    assert "There is none" in text_of(client, status="declined")
    assert len(re.findall("adj_", client.get(PAGE, query_string={"status": "all"}).text)) == 25
    for wrong in ({"status": "x"}, {"sort": "x"}, {"after": "x"}):
        assert client.get(PAGE, query_string=wrong).status_code == 422


def test_its_page_says_what_happened_and_what_each_button_does(
    books: Books, sign_in: SignIn
) -> None:
    known, client = books.late(20, 4), sign_in("finance")
    page = client.get(f"{PAGE}/{known}").text
    read = plain(page)
    assert (
        "2 events of api_calls for cus_1 arrived on Dec 5, 2026, after November 2026 was closed."
        in read
    )
    assert "Applied, it changes the bill by +$12.00." in read
    assert (
        "+$12.00 The total of November 2026 becomes 124 instead of 100, and costs $62.00 instead of"
        " $50.00." in read
    )
    assert (
        "The total of December 2026 becomes 24 instead of 0, and costs $12.00 instead of $0.00."
        in read
    )
    assert "You add an invoice item of $12.00" in read
    assert buttons(page) == dict.fromkeys(
        ("apply", "carry_forward", "invoice_item", "credit_note", "write_off", "decline"), True
    )
    assert "late-0" in read
    books.finalize()
    page = client.get(f"{PAGE}/{known}").text
    assert "after the invoice of November 2026 was final" in plain(page)
    assert buttons(page)["apply"] is False
    assert "can bill nothing more" in plain(page)


def test_deciding_and_taking_back(books: Books, sign_in: SignIn) -> None:
    known, client = books.late(20, 4), sign_in("finance")
    answer = press(client, known, "apply", note="the collector was down")
    assert answer.status_code == 303
    page = client.get(answer.headers["Location"]).text
    assert "It is applied." in plain(page)
    assert buttons(page) == {"revert": True}
    assert "the collector was down" in plain(page)
    assert "Approved: applied by finance (console)" in plain(page)
    assert "goes back to 100 from 124, its cost to $50.00 from $62.00" in plain(page)
    assert books.total() == 124
    again = press(client, known, "apply")
    assert again.status_code == 409
    assert "Nothing was changed: it was approved by console:finance already." in plain(again.text)
    assert press(client, known, "revert").status_code == 303
    assert books.total() == 100
    assert press(client, known, "nonsense").status_code == 422
    assert press(client, known, "revert", note="kept as typed").status_code == 409


def test_what_would_be_less_than_nothing_cannot_be_pressed(books: Books, sign_in: SignIn) -> None:
    page = sign_in("finance").get(f"{PAGE}/{books.delta('-101')}").text
    assert buttons(page)["apply"] is False
    assert buttons(page)["carry_forward"] is False
    assert "The total would be \u22121, less than nothing." in plain(page)
    assert "101 units are to be taken off api_calls for cus_1 in November 2026." in plain(page)


def test_a_delta_is_made_by_hand_and_mistakes_stand_beside_their_fields(
    books: Books, sign_in: SignIn
) -> None:
    client = sign_in("finance")
    page = client.get(f"{PAGE}/new").text
    [key] = re.findall(r'name="key" value="(\w+)"', page)
    form = token_of(page) | {
        "key": key, "customer": "cus_1", "metric": "api_calls", "delta": "\u221220",
        "reason": "credit", "day": "2026-11-10", "note": "goodwill",
    }  # fmt: skip
    for name, wrong, says in (
        ("delta", "many", "is not a plain decimal number"),
        ("delta", "0", "0 units change nothing."),
        ("day", "2027-03-01", "This period has not begun."),
        ("customer", "", "Write 1 to 255 characters."),
        ("metric", "nobody had", "There is no such metric"),
    ):
        answer = client.post(f"{PAGE}/new", data=form | {name: wrong})
        assert answer.status_code == 422
        assert says in plain(answer.text)
        assert "goodwill" in answer.text
    assert books.list() == []
    places = {client.post(f"{PAGE}/new", data=form).headers["Location"] for _ in range(2)}
    [made] = books.list()
    assert places == {f"{PAGE}/{made['id']}"}
    assert (made["delta"], made["createdBy"]) == ("-20", "console:finance")
    assert (made["periodStart"], made["note"]) == ("2026-11-01T00:00:00Z", "goodwill")


def test_support_looks_and_does_not_decide(
    books: Books, sign_in: SignIn, closed_app: Flask, session: Session
) -> None:
    known, client = books.late(20), sign_in("support")
    assert buttons(client.get(f"{PAGE}/{known}").text) == {}
    assert "Make an adjustment" not in text_of(client)
    token = token_of(client.get("/console").text)
    before = stored(session, books.tenant)
    for path in (f"{PAGE}/{known}/decide", f"{PAGE}/new"):
        form = token | {"decision": "apply"}
        assert client.post(path, data=form).status_code == 403
    assert (
        sign_in("finance").post(f"{PAGE}/{known}/decide", data={"decision": "apply"}).status_code
        == 403
    )
    weak = bearer(make_key(session, books.tenant, ["usage:read"], now=NOW))
    for path in (PAGE, f"{PAGE}/{known}", f"{PAGE}/new"):
        assert closed_app.test_client().get(path).status_code == 401
        assert closed_app.test_client().get(path, headers=weak).status_code == 403
    assert "decisions wait" not in closed_app.test_client().get("/console", headers=weak).text
    assert stored(session, books.tenant).keys() == before.keys()
    assert books.total() == 100


def test_another_tenants_are_behind_the_wall(
    books: Books, closed_app: Flask, session: Session, stranger: str
) -> None:
    known = books.late(20)
    client = closed_app.test_client()
    with unit_of_work(session):
        token = console.make_link(session, stranger, "operator", now=NOW)
    client.post("/console/enter", data={"token": token})
    csrf = token_of(client.get("/console").text)
    before = stored(session, books.tenant)
    assert client.get(f"{PAGE}/{known}").status_code == 404
    answer = client.post(f"{PAGE}/{known}/decide", data=csrf | {"decision": "apply"})
    assert answer.status_code == 404
    for path in (PAGE, f"{PAGE}/{known}", f"{PAGE}/new"):
        assert client.get(path, query_string={"tenantId": books.tenant}).status_code == 403
    assert "api_calls" not in text_of(client)
    assert stored(session, books.tenant) == before


def test_the_sandboxs_pages_need_no_key_and_carry_the_tenant(
    books: Books, api: FlaskClient
) -> None:
    known = books.late(20)
    page = api.get(PAGE, query_string={"tenantId": books.tenant}).text
    assert f"{PAGE}/{known}?tenantId={books.tenant}" in page
    path = f"{PAGE}/{known}/decide?tenantId={books.tenant}"
    assert api.post(path, data={"decision": "apply"}, headers=OWN).status_code == 303
    assert books.total() == 120


def test_a_late_event_and_its_adjustment_lead_to_each_other(books: Books, sign_in: SignIn) -> None:
    known = books.late(20)
    finance = sign_in("finance")
    found = re.search(r'href="(/console/events/walk[^"]+)"', finance.get(f"{PAGE}/{known}").text)
    assert found
    walk = finance.get(unescape(found[1])).text
    assert "It was set aside" in walk
    assert f'href="{PAGE}/{known}"' in walk
