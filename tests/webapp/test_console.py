"""The console's door: a link is spent once, a session is a cookie, and a form needs its token."""

import re
import threading
from datetime import datetime, timedelta
from http.cookies import SimpleCookie

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from metering.database import unit_of_work
from metering.tenancy import console, scopes
from tests.webapp.support import AppMaker, Clock, assert_problem, event, ingest, stored
from webapp import auth

ENTER = "/console/enter"


def make_link(session: Session, tenant: str, role: str, now: datetime) -> str:
    with unit_of_work(session):
        return console.make_link(session, tenant, role, now=now)


def enter(client: FlaskClient, token: str, **options: object) -> TestResponse:
    return client.post(ENTER, data={"token": token}, **options)


def cookie_of(answer: TestResponse) -> str:
    return SimpleCookie(answer.headers["Set-Cookie"])[auth.SESSION_COOKIE].value


@pytest.fixture
def browser(shut_app: Flask, session: Session, tenant: str, now: datetime) -> FlaskClient:
    """Signed in as the tenant's operator."""
    client = shut_app.test_client()
    assert enter(client, make_link(session, tenant, "operator", now)).status_code == 303
    return client


def csrf(browser: FlaskClient) -> str:
    found = re.search(r'name="csrf_token" value="([0-9a-f]{64})"', browser.get("/console").text)
    assert found
    return found.group(1)


def test_looking_at_a_link_does_not_spend_it(
    shut: FlaskClient, session: Session, tenant: str, now: datetime
) -> None:
    token = make_link(session, tenant, "support", now)
    before = stored(session, tenant)
    for method in ("GET", "HEAD", "GET"):
        door = shut.open(ENTER, method=method, query_string={"token": token})
        assert door.status_code == 200
        assert "Set-Cookie" not in door.headers
        assert door.headers["Cache-Control"] == "no-store"
        assert door.headers["Referrer-Policy"] == "no-referrer"
    assert (tenant in door.text, "support" in door.text) == (True, True)
    assert stored(session, tenant) == before
    answer = enter(shut, token)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/console")
    assert shut.get(ENTER, query_string={"token": token}).status_code == 403


def test_a_link_is_spent_once(
    shut_app: Flask, session: Session, tenant: str, now: datetime
) -> None:
    token = make_link(session, tenant, "operator", now)
    assert enter(shut_app.test_client(), token).status_code == 303
    again = enter(shut_app.test_client(), token)
    assert (again.status_code, "Set-Cookie" in again.headers) == (403, False)


def test_of_two_browsers_at_once_one_gets_in(
    shut_app: Flask, session: Session, tenant: str, now: datetime
) -> None:
    for _ in range(5):
        token, answers = make_link(session, tenant, "operator", now), []
        gate = threading.Barrier(4)

        def press(token: str = token, gate: threading.Barrier = gate, got: list[int] = answers):
            gate.wait()
            got.append(enter(shut_app.test_client(), token).status_code)

        browsers = [threading.Thread(target=press) for _ in range(4)]
        for thread in browsers:
            thread.start()
        for thread in browsers:
            thread.join()
        assert sorted(answers) == [303, 403, 403, 403]
    assert len(stored(session, tenant)["console_sessions"]) == 5


@pytest.mark.parametrize("token", ["", "x", "\0", "é", "' OR 1=1 --", "x" * 10_000])
def test_a_forged_link_opens_nothing(shut: FlaskClient, token: str) -> None:
    assert enter(shut, token).status_code == 403
    assert shut.get(ENTER, query_string={"token": token}).status_code == 403


def test_a_link_ends_after_a_quarter_of_an_hour(
    make_app: AppMaker, session: Session, tenant: str, clock: Clock
) -> None:
    client = make_app(clock=clock, sandbox=False).test_client()
    token = make_link(session, tenant, "operator", clock.at)
    clock.at += timedelta(minutes=15)
    assert client.get(ENTER, query_string={"token": token}).status_code == 403
    assert enter(client, token).status_code == 403


def test_the_cookie_is_kept_from_scripts_and_other_sites(
    shut_app: Flask, session: Session, tenant: str, now: datetime
) -> None:
    link = make_link(session, tenant, "operator", now)
    plain = enter(shut_app.test_client(), link).headers["Set-Cookie"]
    assert ("HttpOnly" in plain, "SameSite=Lax" in plain, "Secure" in plain) == (True, True, False)
    assert "Path=/" in plain
    assert "Max-Age=43200" in plain
    link = make_link(session, tenant, "operator", now)
    safe = enter(shut_app.test_client(), link, base_url="https://meter.example/")
    assert "Secure" in safe.headers["Set-Cookie"]
    rows = str(stored(session, tenant))
    assert cookie_of(safe) not in rows
    assert link not in rows


def test_a_trusted_proxys_https_makes_the_cookie_secure(
    make_app: AppMaker, session: Session, tenant: str, now: datetime
) -> None:
    said = {"X-Forwarded-Proto": "https"}
    for proxies, secure in ((1, True), (0, False)):
        client = make_app(sandbox=False, trusted_proxies=proxies).test_client()
        answer = enter(client, make_link(session, tenant, "operator", now), headers=said)
        assert ("Secure" in answer.headers["Set-Cookie"]) is secure


def test_a_session_reads_without_and_writes_only_with_the_forms_token(
    browser: FlaskClient, session: Session, tenant: str
) -> None:
    assert browser.get("/v1/events").status_code == 200
    before = stored(session, tenant)
    token = csrf(browser)
    for headers in ({}, {auth.CSRF_HEADER: ""}, {auth.CSRF_HEADER: token[:-1] + "x"},
                    {auth.CSRF_HEADER: "é"}, {"Cookie": f"csrf_token={token}"}):  # fmt: skip
        for method, url in (("POST", "/v1/events/ingest"), ("DELETE", "/v1/admin/api-keys/a"),
                            ("PUT", "/v1/metrics/m"), ("PATCH", "/v1/customers/c")):  # fmt: skip
            refused = browser.open(url, method=method, json={}, headers=headers)
            assert refused.status_code in (401, 403)
    assert stored(session, tenant) == before
    good = browser.put("/v1/metrics/m", json={"unit": "u"}, headers={auth.CSRF_HEADER: token})
    assert good.status_code == 200


def test_the_forms_token_is_the_sessions_own(
    browser: FlaskClient, shut_app: Flask, session: Session, tenant: str, now: datetime
) -> None:
    other = shut_app.test_client()
    enter(other, make_link(session, tenant, "operator", now))
    refused = ingest(other, [event(tenant)], headers={auth.CSRF_HEADER: csrf(browser)})
    assert_problem(refused, 403)


def test_a_session_sees_its_own_tenant_only(
    browser: FlaskClient, stranger: str, tenant: str
) -> None:
    assert tenant in browser.get("/console").text
    assert_problem(browser.get("/v1/events", query_string={"tenantId": stranger}), 403)
    mine = {auth.CSRF_HEADER: csrf(browser)}
    assert_problem(ingest(browser, [event(stranger)], headers=mine), 403)


def test_leaving_ends_the_session_on_our_side_too(browser: FlaskClient, shut_app: Flask) -> None:
    stolen = browser.get_cookie(auth.SESSION_COOKIE)
    assert stolen is not None
    assert_problem(browser.post("/console/leave"), 403)
    left = browser.post("/console/leave", data={"csrf_token": csrf(browser)})
    assert (left.status_code, left.headers["Location"]) == (303, "/console")
    assert browser.get_cookie(auth.SESSION_COOKIE) is None
    thief = shut_app.test_client()
    thief.set_cookie(auth.SESSION_COOKIE, stolen.value)
    assert_problem(thief.get("/v1/events"), 401)
    assert thief.get("/console").status_code == 401


def test_a_session_ends_after_twelve_hours(
    make_app: AppMaker, session: Session, tenant: str, clock: Clock
) -> None:
    client = make_app(clock=clock, sandbox=False).test_client()
    enter(client, make_link(session, tenant, "operator", clock.at))
    clock.at += timedelta(hours=12, seconds=-1)
    assert client.get("/v1/events").status_code == 200
    clock.at += timedelta(seconds=1)
    assert_problem(client.get("/v1/events"), 401)


@pytest.mark.parametrize("role", sorted(scopes.ROLES))
def test_a_role_is_its_scopes(
    shut_app: Flask, session: Session, tenant: str, now: datetime, role: str
) -> None:
    client = shut_app.test_client()
    enter(client, make_link(session, tenant, role, now))
    mine = {auth.CSRF_HEADER: csrf(client)}
    asked = {
        "events:read": client.get("/v1/events"),
        "usage:read": client.get("/v1/metrics"),
        "events:write": ingest(client, [event(tenant)], headers=mine),
        "usage:write": client.put("/v1/metrics/m", json={}, headers=mine),
        "admin:read": client.get("/v1/admin/api-keys"),
        "admin:write": client.post(
            "/v1/admin/api-keys", json={"name": "n", "scopes": ["events:read"]}, headers=mine
        ),
    }
    allowed = {scope for scope, answer in asked.items() if answer.status_code < 300}
    assert allowed == scopes.ROLES[role] & asked.keys()
    assert {answer.status_code for answer in asked.values()} <= {200, 201, 403}


def test_roles_only_look_but_for_what_is_theirs() -> None:
    writes = {
        name: {scope for scope in role if scope.endswith(":write")}
        for name, role in scopes.ROLES.items()
    }
    assert writes["support"] == set()
    assert writes["finance"] == {"simulations:write", "adjustments:write", "alerts:write"}
    assert scopes.ROLES["operator"] == scopes.ALL
    assert not any(s.startswith("admin") for s in scopes.ROLES["support"] | scopes.ROLES["finance"])
