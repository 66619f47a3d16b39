"""The sandbox lets in whoever sits at the machine: under all of its conditions, or not at all."""

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from tests.webapp.support import INGEST, AppMaker, assert_problem, event, event_count, ingest
from webapp import auth
from webapp.config import Config

READ, WRITE = "/v1/events", INGEST


def asked(client: FlaskClient, tenant: str, **options: Any):
    """A read, and a write with a good body; their statuses are to be the same."""
    read = client.get(READ, query_string={"tenantId": tenant}, **options)
    write = client.post(WRITE, json={"events": [event(tenant)]}, **options)
    return read, write


def assert_shut(client: FlaskClient, tenant: str, **options: Any) -> None:
    for answer in asked(client, tenant, **options):
        assert "API key" in assert_problem(answer, 401)
        assert tenant not in answer.get_data(as_text=True)


def assert_open(client: FlaskClient, tenant: str, **options: Any) -> None:
    assert [answer.status_code for answer in asked(client, tenant, **options)] == [200, 200]


@pytest.mark.parametrize("host", ["localhost", "localhost:3000", "127.0.0.1:3000", "[::1]:3000"])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "127.8.8.8"])
def test_it_is_open_to_this_machine(
    client: FlaskClient, tenant: str, host: str, address: str
) -> None:
    options = {"headers": {"Host": host}, "environ_base": {"REMOTE_ADDR": address}}
    assert_open(client, tenant, **options)
    options["headers"] = {"Host": host, "Origin": f"http://{host}"}
    assert_open(client, tenant, **options)


@pytest.mark.parametrize(
    "settings",
    [
        {"sandbox": False},
        {"bind_host": "0.0.0.0"},
        {"bind_host": "::"},
        {"bind_host": "192.168.0.7"},
        {"bind_host": "example.com"},
        {"bind_host": ""},
        {"stripe_live_key": "sk_live_x"},
    ],
)
def test_it_is_shut_where_it_runs_otherwise(
    make_app: AppMaker, tenant: str, nothing_written: None, settings: dict[str, Any]
) -> None:
    assert_shut(make_app(**settings).test_client(), tenant)


@pytest.mark.parametrize(
    "address", ["10.0.0.5", "192.168.0.7", "8.8.8.8", "::ffff:10.0.0.5", "fe80::1", "", "unix:"]
)
def test_it_is_shut_to_other_machines(
    client: FlaskClient, tenant: str, nothing_written: None, address: str
) -> None:
    assert_shut(client, tenant, environ_base={"REMOTE_ADDR": address})
    # Nobody talks it round by saying where they are.
    for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded"):
        said = {name: "127.0.0.1" if name != "Forwarded" else "for=127.0.0.1"}
        assert_shut(client, tenant, environ_base={"REMOTE_ADDR": address}, headers=said)


def test_a_trusted_proxy_is_believed_on_who_asks(
    make_app: AppMaker, tenant: str, nothing_written: None
) -> None:
    client = make_app(trusted_proxies=1).test_client()
    assert_shut(client, tenant, headers={"X-Forwarded-For": "8.8.8.8"})
    # Only the last address is the proxy's word; those before it are the client's own.
    assert_shut(client, tenant, headers={"X-Forwarded-For": "127.0.0.1, 8.8.8.8"})
    # On the name that was asked for nobody is believed but `Host`.
    named = {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "localhost"}
    assert_shut(client, tenant, headers=named | {"Host": "evil.example"})


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:3000", "localhost.evil.example", "127.0.0.1.nip.io",
        "localhost.", "0.0.0.0:3000", "127.0.0.2", "2130706433", "127.1", "[::1", "[zz]", "",
        "localhost evil.example", "evil.example#localhost", "evil.example/localhost",
    ],
)  # fmt: skip
def test_it_is_shut_to_names_that_only_point_here(
    client: FlaskClient, tenant: str, nothing_written: None, host: str
) -> None:
    for answer in asked(client, tenant, headers={"Host": host}):
        assert answer.status_code in (400, 401), answer.get_data(as_text=True)
        assert tenant not in answer.get_data(as_text=True)


@pytest.mark.parametrize(
    "origin",
    [
        "null", "", "http://evil.example", "https://localhost", "http://localhost:8080",
        "http://localhost.evil.example", "http://127.0.0.1", "localhost", "HTTP://LOCALHOST/",
    ],
)  # fmt: skip
def test_it_is_shut_to_pages_of_another_origin(
    client: FlaskClient, tenant: str, nothing_written: None, origin: str
) -> None:
    assert_shut(client, tenant, headers={"Origin": origin, "Host": "localhost"})


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None],
)
def test_it_is_shut_to_what_a_form_can_post(
    client: FlaskClient, tenant: str, nothing_written: None, kind: str | None
) -> None:
    body = '{"events": [{"tenantId": "%s"}]}' % tenant  # noqa: UP031
    assert_problem(client.post(WRITE, data=body, content_type=kind), 401)
    chunked = {"Transfer-Encoding": "chunked"}
    assert_problem(client.post(WRITE, content_type=kind, headers=chunked), 401)


def test_a_wrong_key_is_not_made_good_by_sitting_here(client: FlaskClient, tenant: str) -> None:
    for headers in ({"x-api-key": "sm_test_x"}, {"Authorization": "Bearer sm_live_x"}):
        assert_shut(client, tenant, headers=headers)


def test_the_sandbox_wants_the_tenant_named(client: FlaskClient) -> None:
    assert_problem(client.get(READ), 422, pointer="/tenantId")
    for strange in ("x" * 129, "a\nb", "\u200b"):
        assert_problem(client.get(READ, query_string={"tenantId": strange}), 422)


def test_a_key_works_in_the_sandbox_from_anywhere(
    client: FlaskClient, session: Session, tenant: str, key: str
) -> None:
    far = {"REMOTE_ADDR": "8.8.8.8"}
    answer = client.post(
        WRITE, json={"events": [event(tenant)]}, headers={"x-api-key": key}, environ_base=far
    )
    assert answer.status_code == 200
    assert event_count(session, tenant) == 1
    refused = ingest(client, [event(f"{tenant}-other")], headers={"x-api-key": key})
    assert_problem(refused, 403)


@pytest.mark.parametrize(
    "options",
    [
        {"environ_base": {"REMOTE_ADDR": "10.0.0.5"}},
        {"headers": {"Host": "evil.example"}},
        {"headers": {"Origin": "http://evil.example"}},
    ],
)
def test_the_front_page_shows_tenants_under_the_same_conditions(
    client: FlaskClient, options: dict[str, Any]
) -> None:
    # Else anybody who reaches the port, or rebinds a name to it, reads the tenants' names.
    # The list shows the first by id: "!" comes before letters and digits.
    ingest(client, [event("!planted")])
    assert "!planted" in client.get("/").get_data(as_text=True)
    assert "!planted" not in client.get("/", **options).get_data(as_text=True)


def test_the_front_page_leads_to_the_demo_where_there_is_one(make_app: AppMaker) -> None:
    places = {"demo_url": "http://localhost:3002", "stripe_api_base": "http://127.0.0.1:3001"}
    page = make_app(**places).test_client().get("/").get_data(as_text=True)
    assert 'href="http://localhost:3002"' in page
    assert 'href="http://localhost:3002/app"' in page
    assert 'href="http://localhost:3001/"' in page
    assert "Open the demo" not in make_app().test_client().get("/").get_data(as_text=True)


def test_the_front_page_outside_the_sandbox_leads_to_the_console(shut: FlaskClient) -> None:
    answer = shut.get("/")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/console")


def test_pages_escape_what_tenants_are_called(client: FlaskClient) -> None:
    ingest(client, [event("!<script>alert(1)</script>")])
    page = client.get("/").get_data(as_text=True)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_every_condition_says_which_one_it_is(app: Flask, config: Config) -> None:
    with app.test_request_context("/", environ_base={"REMOTE_ADDR": "8.8.8.8"}) as context:
        assert "this machine" in (auth.why_not_open(config, context.request) or "")
    with app.test_request_context(
        "/", environ_base={"REMOTE_ADDR": "::1"}, headers={"Host": "x.example"}
    ) as context:
        assert "localhost" in (auth.why_not_open(config, context.request) or "")
