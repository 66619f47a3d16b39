"""The simulator's pages without a browser: downloads, doors, walls and what is typed wrong."""

import csv
import hashlib
import io
import json
import re
from datetime import datetime
from decimal import Decimal
from html import unescape
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from metering.billing import simulations
from metering.database import unit_of_work
from metering.tenancy import console
from tests.webapp.support import bearer, make_key, stored
from webapp.simulator import checking, form

OWN = {"Origin": "http://localhost"}
STATE = {
    "currency": "usd",
    "quantity": "1031",
    "a-name": "=cmd|' /C calc'!A0",
    "a-model": "graduated",
    "a-0-to": "1000",
    "a-0-flat": "9",
    "a-1-unit": "0.036",
}


@pytest.fixture
def finance(shut_app: Flask, session: Session, tenant: str, now: datetime) -> FlaskClient:
    """A browser that is signed in to the tenant."""
    client = shut_app.test_client()
    with unit_of_work(session):
        token = console.make_link(session, tenant, "finance", now=now)
    client.post("/console/enter", data={"token": token})
    return client


def csrf(client: FlaskClient) -> str:
    found = re.search(r'name="csrf_token" value="([0-9a-f]{64})"', client.get("/simulator").text)
    assert found
    return found[1]


def save(client: FlaskClient, **fields: str) -> str:
    """Save the state; where it is then."""
    data = {"name": "n", "state": urlencode(STATE), "csrf_token": csrf(client)} | fields
    answer = client.post("/simulator/saved", data=data)
    assert answer.status_code == 303, answer.text
    return answer.headers["Location"]


def rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_nobody_is_let_in_without_signing_in(shut: FlaskClient) -> None:
    for path in ("/simulator", "/simulator/results", "/simulator/saved", "/simulator/curve.csv"):
        answer = shut.get(path)
        assert answer.status_code == 401
        assert "not signed in" in answer.text
    assert shut.post("/simulator/saved", data={}, headers=OWN).status_code == 401


def test_a_key_needs_the_scope(
    shut: FlaskClient, session: Session, tenant: str, now: datetime
) -> None:
    weak = bearer(make_key(session, tenant, ["usage:read"], now=now))
    assert shut.get("/simulator", headers=weak).status_code == 403
    reader = bearer(make_key(session, tenant, ["simulations:read"], now=now))
    assert shut.get("/simulator", headers=reader).status_code == 200
    assert shut.post("/simulator/saved", data={"name": "n"}, headers=reader).status_code == 403


def test_the_sandbox_takes_forms_only_from_its_own_pages(client: FlaskClient) -> None:
    data = {"name": "n", "state": urlencode(STATE)}
    for headers in ({}, {"Origin": "null"}, {"Origin": "http://evil.example"}):
        assert client.post("/simulator/saved", data=data, headers=headers).status_code == 401
    assert client.post("/simulator/saved", data=data, headers=OWN).status_code == 303
    # What takes JSON takes no form, wherever it comes from.
    refused = client.post("/v1/events/ingest", data=data, headers=OWN)
    assert refused.status_code == 401
    assert client.get("/simulator").headers["Referrer-Policy"] == "same-origin"


def test_a_session_writes_only_with_the_forms_token(finance: FlaskClient) -> None:
    data = {"name": "n", "state": urlencode(STATE)}
    assert finance.post("/simulator/saved", data=data, headers=OWN).status_code == 403
    assert finance.post("/simulator/saved", data=data | {"csrf_token": "x"}).status_code == 403


def test_what_another_tenant_saved_is_not_there(
    finance: FlaskClient, session: Session, tenant: str, stranger: str, now: datetime
) -> None:
    with unit_of_work(session):
        theirs = simulations.save(
            session, stranger, name="planted-7f3a", kind="comparison",
            document={"currency": "usd", "prices": []}, created_by="x", now=now,
        ).id  # fmt: skip
    before = stored(session, stranger)
    token = {"csrf_token": csrf(finance)}
    asked = [
        finance.get("/simulator/saved"),
        finance.get(f"/simulator/saved/{theirs}"),
        finance.get("/simulator/saved", query_string={"tenantId": stranger}),
        finance.post(f"/simulator/saved/{theirs}/duplicate", data=token),
        finance.post(f"/simulator/saved/{theirs}/delete", data=token),
        finance.post("/simulator/saved", data=token | {
            "id": theirs, "as": "same", "name": "mine", "state": urlencode(STATE)}),
    ]  # fmt: skip
    assert [answer.status_code for answer in asked] == [200, 404, 403, 404, 404, 404]
    assert all("planted-7f3a" not in answer.text for answer in asked)
    assert stored(session, stranger) == before


def test_the_invoice_as_csv(client: FlaskClient) -> None:
    answer = client.get("/simulator/invoice.csv", query_string=STATE)
    assert answer.mimetype == "text/csv"
    head, *lines = rows(answer.text)
    assert head[-2:] == ["amount", "currency"]
    # A name that a spreadsheet would run is text.
    assert {line[0] for line in lines} == {"'=cmd|' /C calc'!A0"}
    assert [(line[1], line[2], line[6]) for line in lines] == [
        ("flat", "1", "9.00"),
        ("unit", "2", "1.12"),
    ]
    assert lines[1][5] == "1.116"


def test_the_curve_as_csv_and_everything_as_json(client: FlaskClient) -> None:
    head, *lines = rows(client.get("/simulator/curve.csv", query_string=STATE).text)
    assert head[0] == "quantity"
    assert {line[0]: line[1] for line in lines}["1031"] == "10.116"
    body = client.get("/simulator/simulation.json", query_string=STATE).get_json()
    (price,) = body["prices"]
    assert price["result"]["totalMinor"] == 1012
    assert price["priceConfig"]["tiers"][0] == {"upTo": "1000", "flatPrice": "9"}
    wrong = client.get("/simulator/invoice.csv", query_string=STATE | {"a-0-to": "x"})
    assert wrong.status_code == 422


def test_a_negative_rate_stays_a_number(client: FlaskClient) -> None:
    falling = STATE | {"a-model": "volume", "a-0-unit": "1", "quantity": "1000"}
    assert "−$" in client.get("/simulator", query_string=falling).text


def test_what_is_saved_is_the_contracts_price(
    finance: FlaskClient, session: Session, tenant: str
) -> None:
    where = save(finance, name="Spring")
    (row,) = simulations.listed(session, tenant)
    document = simulations.document(row)
    session.rollback()
    assert document["prices"][0]["priceConfig"]["model"] == "graduated"
    opened = finance.get(where)
    assert "Spring" in opened.text
    assert "$10.12" in opened.text


def test_a_document_from_elsewhere_is_shown_as_far_as_it_can_be(
    finance: FlaskClient, session: Session, tenant: str, now: datetime
) -> None:
    documents: list[dict[str, object]] = [
        {},
        {"prices": 3, "quantity": [], "currency": 7},
        {"prices": [None, {"priceConfig": {"model": "x"}}, {"stripePrice": {"currency": "usd"}}]},
        {"prices": [{"priceConfig": {"model": "per_unit", "currency": "usd", "unitPrice": "2"}}]},
    ]
    for document in documents:
        with unit_of_work(session):
            saved = simulations.save(
                session, tenant, name="api", kind="comparison", document=document,
                created_by="key", now=now,
            ).id  # fmt: skip
        assert finance.get(f"/simulator/saved/{saved}").status_code == 200


def test_assets_change_their_address_with_their_content(client: FlaskClient) -> None:
    page = client.get("/simulator").text
    addresses = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    assert len(addresses) >= 6
    for address in addresses:
        with client.get(address) as answer:
            assert answer.status_code == 200
            assert "immutable" in answer.headers["Cache-Control"]
        with client.get(re.sub(r"v=\w+", "v=000000000000", address)) as stale:
            assert "immutable" not in stale.headers.get("Cache-Control", "")
    assert "style=" not in page
    assert not re.search(r"<script(?![^>]*src=)", page)


def test_vendored_files_are_what_their_packages_hold(repository: Path) -> None:
    folder = repository / "webapp" / "static" / "vendor"
    listed = dict(
        re.findall(r"^\| (\S+) \|.*`([0-9a-f]{64})` \|$", (folder / "README.md").read_text(), re.M)
    )
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.suffix in (".js", ".css")
    }
    assert listed == found
    assert len(found) == 3


def read_price(client: FlaskClient, state: str, price: object, into: str = "b") -> TestResponse:
    data = {"state": state, "into": into, "json": json.dumps(price)}
    return client.post("/simulator/read", data=data, headers=OWN)


def test_a_pasted_price_does_not_change_the_others_currency(client: FlaskClient) -> None:
    yen = {"object": "price", "currency": "jpy", "unit_amount": 5}
    state = "currency=usd&quantity=1&a-model=per_unit&a-unit=0.01"
    refused = read_price(client, state, yen)
    assert refused.status_code == 422
    assert "This price is in JPY and the comparison in USD" in refused.text
    assert 'value="0.01"' in refused.text
    # It comes in the comparison's currency where it has one, and alone in its own.
    both = yen | {"currency_options": {"usd": {"unit_amount": 7}}}
    assert "b-unit=0.07" in read_price(client, state, both).headers["Location"]
    assert "currency=jpy" in read_price(client, state, yen, into="a").headers["Location"]


def test_what_the_fields_cannot_hold_is_not_pasted_half(client: FlaskClient) -> None:
    given = {"model": "graduated", "currency": "usd", "zeroUsage": "nothing",
             "tiers": [{"flatPrice": 9}]}  # fmt: skip
    answer = read_price(client, "currency=usd", given, into="a")
    assert answer.status_code == 422
    assert "the fields cannot say" in answer.text
    for text in ('{"currency": "usd", "unit_amount": 1, "nickname": "\\ud800"}', '{"\\ud800": 1}'):
        pasted = client.post("/simulator/read", data={"json": text}, headers=OWN)
        assert pasted.status_code == 422


@pytest.mark.parametrize(
    ("typed", "field"),
    [("0,008", "a-unit"), ("1,250", "a-unit"), ("1,25", "quantity"), ("0,100", "quantity")],
)
def test_a_decimal_comma_is_never_a_thousand(client: FlaskClient, typed: str, field: str) -> None:
    state = {"currency": "usd", "quantity": "100", "a-model": "per_unit", "a-unit": "1"}
    shown = client.get("/simulator", query_string=state | {field: typed}).text
    assert "cost $" not in shown
    assert f'id="error-{field}">' in shown
    assert f'id="error-{field}"></span>' not in shown


def test_a_mistake_is_never_priced_as_nothing(client: FlaskClient) -> None:
    for wrong in ({"quantity": "-5"}, {"quantity": "abc"}, {"range": "x"}):
        state = {"currency": "usd", "quantity": "5", "a-model": "per_unit", "a-unit": "1"} | wrong
        assert "cost $" not in client.get("/simulator", query_string=state).text
        for name in ("invoice.csv", "curve.csv", "simulation.json"):
            assert client.get(f"/simulator/{name}", query_string=state).status_code == 422


def test_very_large_quantities_are_shown(client: FlaskClient) -> None:
    for quantity in ("9999999999999999.999999999999", "9" * 27, "9" * 30):
        state = {"quantity": quantity, "a-model": "per_unit", "a-unit": "0.000000000001"}
        assert client.get("/simulator", query_string=state).status_code == 200
        state = {"range": quantity, "a-model": "package", "a-unit": "1", "a-size": "3"}
        assert client.get("/simulator", query_string=state).status_code == 200


def test_ids_that_can_be_none_are_not_there(client: FlaskClient) -> None:
    for path in ("/simulator/saved/%00", "/simulator/saved/x%00y", "/simulator/saved/" + "x" * 500):
        assert client.get(path).status_code == 404
    after = {"after": "2026-01-01T00:00:00Z \0"}
    assert client.get("/simulator/saved", query_string=after).status_code == 200


def test_a_document_opens_in_its_own_currency_and_says_what_it_leaves_out(
    finance: FlaskClient, session: Session, tenant: str, now: datetime
) -> None:
    def opened(document: dict[str, object]) -> str:
        with unit_of_work(session):
            saved = simulations.save(
                session, tenant, name="api", kind="comparison", document=document,
                created_by="key", now=now,
            ).id  # fmt: skip
        return finance.get(f"/simulator/saved/{saved}").text

    def per_unit(code: str) -> dict[str, object]:
        return {"priceConfig": {"model": "per_unit", "currency": code, "unitPrice": "1"}}

    assert "10 units cost €10.00." in opened({"quantity": 10, "prices": [per_unit("eur")]})
    mixed = opened({"quantity": 10, "prices": [per_unit("eur"), per_unit("usd")]})
    assert "Price 2 is not shown: it is in usd, the others in eur." in mixed
    assert "Save changes" not in mixed
    nothing = opened({"currency": "eur", "quantity": 10, "prices": []})
    assert "It holds no prices that this page could show." in nothing
    assert "220.00" not in nothing
    many = opened({"prices": [per_unit("eur")] * 5})
    assert "Price 5 is not shown: only 4 are shown." in many


def test_undo_restores_a_deleted_document_to_the_letter(
    finance: FlaskClient, session: Session, tenant: str, now: datetime
) -> None:
    document = {"quantity": Decimal("0.10"), "prices": [None] * 9, "own": {"a": ["<b>"]}}
    with unit_of_work(session):
        saved = simulations.save(
            session, tenant, name="api", kind="comparison", document=document,
            created_by="key", now=now,
        )  # fmt: skip
        before, identifier = saved.document, saved.id
    token = {"csrf_token": csrf(finance)}
    page = finance.post(f"/simulator/saved/{identifier}/delete", data=token).text
    held = re.search(r'name="document" value="([^"]*)"', page)
    assert held
    data = token | {"name": "api", "document": unescape(held[1])}
    assert finance.post("/simulator/saved", data=data).status_code == 303
    (row,) = simulations.listed(session, tenant)
    assert row.document == before
    session.rollback()
    bad = finance.post("/simulator/saved", data=token | {"name": "x", "document": "{"})
    assert bad.status_code == 400


_FIELDS = [
    "currency", "quantity", "range", "tenantId", "do",
    *(f"{letter}-{name}" for letter in "ab" for name in (
        "name", "model", "unit", "size", "round", "fee", "min", "max", "free",
        "0-to", "0-unit", "0-flat", "1-to", "1-unit", "2-flat", "2-row", "999-to")),
]  # fmt: skip
_TYPED = st.text("abz<>\"'é٣\0 ,.-+=&019", max_size=8) | st.sampled_from(
    ["0", "-1", "1e400", "NaN", "10,000", "1,0", "0.01", "0.0000000000001", "9" * 40, "usd", "jpy",
     "graduated", "volume", "package", "per_unit", "flat", "add-price", "drop-a", "copy-a",
     "add-tier-a", "drop-tier-a-0", "drop-tier-a-99", "٣", "<b>"]
)  # fmt: skip


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(_FIELDS), _TYPED, max_size=25))
def test_nothing_that_is_typed_breaks_the_state(typed: dict[str, str]) -> None:
    state = form.read(typed)
    # A link is the whole state.
    assert form.read(dict(parse_qsl(state.query()))).query() == state.query()
    checked = checking.check(form.change(state, typed.get("do", "")))
    for letter, price in checked.prices.items():
        assert state.price(letter) is None or price.amount(checked.quantity or 0) >= 0  # type: ignore[arg-type]


def test_pages_answer_whatever_is_typed(client: FlaskClient) -> None:
    for typed in ({"a-model": "x"}, {"quantity": "x", "a-model": "package"}, {"currency": "zzz"},
                  {"a-model": "graduated", "a-0-to": "\0"}, {"do": "drop-tier-a-9"}):  # fmt: skip
        for path in ("/simulator", "/simulator/results"):
            assert client.get(path, query_string=typed).status_code in (200, 303)
    pasted = client.post("/simulator/read", data={"json": "[" * 10_000}, headers=OWN)
    assert pasted.status_code == 422
    assert "not JSON" in pasted.text
