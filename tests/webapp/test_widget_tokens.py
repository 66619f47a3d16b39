"""Widget tokens: made by a backend, listed, revoked; and exchanged by a page for a frame."""

from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from metering import installation
from metering.database import unit_of_work
from metering.errors import InvalidInputError
from metering.tenancy import keys, scopes, widgets
from metering.tenancy.models import WidgetFrame, WidgetToken
from tests.support import scalar
from tests.webapp.support import bearer

TOKENS, FRAMES = "/v1/widget/tokens", "/v1/widget/frames"
HOST = "https://app.example.com"


@pytest.fixture
def api(shut: FlaskClient) -> FlaskClient:
    """The app as production runs it: nobody gets in without a key."""
    return shut


def mint(api: FlaskClient, key: str, **given: Any) -> TestResponse:
    return api.post(TOKENS, json={"customerRef": "c1"} | given, headers=bearer(key))


def minted(api: FlaskClient, key: str, **given: Any) -> dict[str, Any]:
    answer = mint(api, key, **given)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.get_json()
    return found


def exchange(api: FlaskClient, token: str, origin: str | None = HOST) -> TestResponse:
    headers = {} if origin is None else {"Origin": origin}
    return api.post(FRAMES, json={"token": token}, headers=headers)


def test_a_token_is_made_shown_once_and_stored_as_a_hash(
    api: FlaskClient, key: str, tenant: str, session: Session
) -> None:
    answer = mint(api, key, origins=[f"{HOST}:443", "http://localhost:5173"], metrics=["b", "a"])
    made = answer.get_json()
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    assert made["token"].startswith("smw_")
    assert made["origins"] == ["http://localhost:5173", HOST]
    assert made["metrics"] == ["a", "b"]
    listed = api.get(TOKENS, headers=bearer(key)).get_json()["tokens"]
    assert [each["id"] for each in listed] == [made["id"]]
    assert listed[0] == {name: value for name, value in made.items() if name != "token"}
    stored = scalar(session, "SELECT t::text FROM widget_tokens t WHERE tenant_id = :t", t=tenant)
    assert made["token"] not in stored
    assert made["token"].removeprefix("smw_") not in stored


def test_a_token_lives_for_a_quarter_of_an_hour_unless_told(
    api: FlaskClient, key: str, session: Session, tenant: str
) -> None:
    lives = [minted(api, key), minted(api, key, ttlSeconds=60), minted(api, key, ttlSeconds=86400)]
    for made, seconds in zip(lives, (900, 60, 86400), strict=True):
        token = session.get(WidgetToken, (tenant, made["id"]))
        assert token is not None
        assert token.expires_at - token.created_at == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ({"ttlSeconds": 59}, "/ttlSeconds"),
        ({"ttlSeconds": 86401}, "/ttlSeconds"),
        ({"ttlSeconds": "900"}, "/ttlSeconds"),
        ({"customerRef": ""}, "/customerRef"),
        ({"customerRef": "a\x00"}, "/customerRef"),
        ({"metrics": []}, "/metrics"),
        ({"origins": []}, "/origins"),
        ({"origins": ["https://a.example/path"]}, "/origins"),
        ({"origins": ["app.example.com"]}, "/origins"),
        ({"origins": ["*"]}, "/origins"),
        ({"origins": ["https://*.example.com"]}, "/origins"),
        ({"origins": ["https://a.example; script-src *"]}, "/origins"),
        ({"origins": ["null"]}, "/origins"),
        ({"customer": "c1"}, "/customer"),
    ],
)
def test_a_mistake_is_named(
    api: FlaskClient, key: str, given: dict[str, Any], pointer: str
) -> None:
    answer = mint(api, key, **given)
    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["pointer"].startswith(pointer)


@given(st.text(max_size=40))
def test_no_text_that_is_taken_for_an_origin_can_break_out_of_a_header(text: str) -> None:
    for prefix in ("", "https://", "http://a"):
        try:
            origin = widgets.check_origin(prefix + text)
        except InvalidInputError:
            continue
        assert origin.isascii()
        assert not set(origin) & set(" \t\r\n;,'\"*\\<>@?#")
        assert widgets.check_origin(origin) == origin


@pytest.mark.parametrize(
    ("written", "origin"),
    [
        ("HTTPS://App.Example.COM", "https://app.example.com"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("http://[::1]:80", "http://[::1]"),
    ],
)
def test_an_origin_is_kept_as_browsers_write_it(written: str, origin: str) -> None:
    assert widgets.check_origin(written) == origin


def test_only_who_may_makes_lists_and_revokes(
    api: FlaskClient, session: Session, tenant: str, key: str, now: Any
) -> None:
    with unit_of_work(session):
        _, reader = keys.create(
            session, tenant, name="r", scopes=["widget:read"], granted_by=scopes.ALL,
            created_by="test", now=now,
        )  # fmt: skip
    made = minted(api, key)
    assert mint(api, reader).status_code == 403
    assert api.delete(f"{TOKENS}/{made['id']}", headers=bearer(reader)).status_code == 403
    assert api.get(TOKENS, headers=bearer(reader)).status_code == 200
    assert api.post(TOKENS, json={"customerRef": "c1"}).status_code == 401


def test_another_tenants_tokens_are_not_there(
    api: FlaskClient, session: Session, key: str, stranger: str, now: Any
) -> None:
    with unit_of_work(session):
        wanted = widgets.Wanted("c1")
        theirs, _ = widgets.mint(session, stranger, wanted, created_by="test", now=now)
        their_id = theirs.token_id
    assert api.get(TOKENS, headers=bearer(key)).get_json() == {"tokens": []}
    assert api.delete(f"{TOKENS}/{their_id}", headers=bearer(key)).status_code == 404
    assert mint(api, key, tenantId=stranger).status_code == 403
    ended = api.delete(f"{TOKENS}?customerRef=c1", headers=bearer(key)).get_json()
    assert ended == {"revoked": 0}
    session.expire_all()
    assert (
        scalar(session, "SELECT revoked_at FROM widget_tokens WHERE token_id = :i", i=their_id)
        is None
    )


def test_a_page_of_the_tokens_origin_gets_a_frame(api: FlaskClient, key: str) -> None:
    made = minted(api, key, origins=[HOST])
    answer = exchange(api, made["token"])
    opened = answer.get_json()
    assert answer.status_code == 201
    assert answer.headers["Access-Control-Allow-Origin"] == HOST
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Origin" in answer.headers["Vary"]
    assert opened["frameUrl"] == f"/widget/f/{opened['code']}"
    assert opened["codeExpiresInSeconds"] == 30
    assert 895 <= opened["expiresInSeconds"] <= 900
    assert made["token"] not in answer.text


def test_the_browsers_question_before_is_answered(api: FlaskClient) -> None:
    asked = {
        "Origin": HOST,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    answer = api.options(FRAMES, headers=asked)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == HOST
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert "Content-Type" in answer.headers["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example", "http://app.example.com", f"{HOST}:8443",
        "https://app.example.com.evil.example", "null", None, "https://[", "file://",
    ],
)  # fmt: skip
def test_no_other_page_gets_one(
    api: FlaskClient, key: str, session: Session, tenant: str, origin: str | None
) -> None:
    made = minted(api, key, origins=[HOST])
    answer = exchange(api, made["token"], origin)
    assert answer.status_code == 403
    assert answer.mimetype == "application/problem+json"
    assert scalar(session, "SELECT count(*) FROM widget_frames WHERE tenant_id = :t", t=tenant) == 0
    if origin is not None:
        # The page's developer reads why.
        assert answer.headers["Access-Control-Allow-Origin"] == origin


def test_a_token_without_origins_belongs_to_the_first_that_asks(api: FlaskClient, key: str) -> None:
    token = minted(api, key)["token"]
    assert exchange(api, token, HOST).status_code == 201
    assert exchange(api, token, "https://second.example").status_code == 403
    assert exchange(api, token, HOST).status_code == 201


def test_what_is_no_living_token_is_told_apart_by_nobody(
    api: FlaskClient, key: str, session: Session, tenant: str, now: Any
) -> None:
    revoked, expired = minted(api, key), minted(api, key)
    assert api.delete(f"{TOKENS}/{revoked['id']}", headers=bearer(key)).status_code == 204
    with unit_of_work(session):
        token = session.get(WidgetToken, (tenant, expired["id"]))
        assert token is not None
        token.expires_at = now - timedelta(seconds=1)
    forged = revoked["token"][:-1] + ("A" if revoked["token"][-1] != "A" else "B")
    answers = [
        exchange(api, each) for each in (revoked["token"], expired["token"], forged, key, "x")
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.get_json()["detail"] for answer in answers}) == 1


def test_a_token_may_be_exchanged_until_it_ends_and_no_longer(api: FlaskClient, key: str) -> None:
    made = minted(api, key, origins=[HOST])
    codes = {exchange(api, made["token"]).get_json()["code"] for _ in range(3)}
    assert len(codes) == 3
    assert api.delete(f"{TOKENS}/{made['id']}", headers=bearer(key)).status_code == 204
    assert exchange(api, made["token"]).status_code == 401
    # It cannot end twice.
    assert api.delete(f"{TOKENS}/{made['id']}", headers=bearer(key)).status_code == 404


def test_all_tokens_of_a_customer_end_at_once(api: FlaskClient, key: str) -> None:
    mine, others = [minted(api, key) for _ in range(3)], minted(api, key, customerRef="c2")
    ended = api.delete(f"{TOKENS}?customerRef=c1", headers=bearer(key)).get_json()
    assert ended == {"revoked": 3}
    assert {exchange(api, each["token"]).status_code for each in mine} == {401}
    assert exchange(api, others["token"]).status_code == 201
    listed = api.get(f"{TOKENS}?customerRef=c1", headers=bearer(key)).get_json()["tokens"]
    assert all(each["revokedAt"] for each in listed)


def test_without_a_token_only_the_sandbox_opens_one(
    api: FlaskClient, client: FlaskClient, tenant: str, session: Session
) -> None:
    named = {"tenantId": tenant, "customerRef": "c1"}
    page = {"Origin": "http://localhost:3002"}
    assert api.post(FRAMES, json=named, headers=page).status_code == 401
    local = {"base_url": "http://localhost:3000"}
    opened = client.post(FRAMES, json=named, headers=page, **local)
    assert opened.status_code == 201
    assert opened.headers["Access-Control-Allow-Origin"] == page["Origin"]
    token = session.query(WidgetToken).filter_by(tenant_id=tenant).one()
    assert (token.origins, token.customer_ref) == ([page["Origin"]], "c1")
    for origin in ("https://evil.example", "http://localhost.evil.example"):
        refused = client.post(FRAMES, json=named, headers={"Origin": origin}, **local)
        assert refused.status_code == 401
    rebound = client.post(FRAMES, json=named, headers=page, base_url="http://evil.example:3000")
    assert rebound.status_code == 401
    away = client.post(
        FRAMES, json=named, headers=page, environ_overrides={"REMOTE_ADDR": "10.0.0.9"}, **local
    )
    assert away.status_code == 401
    assert client.post(FRAMES, json={}, headers=page, **local).status_code == 422
    # The other doors stay shut to pages of another port.
    assert client.get(f"{TOKENS}?tenantId={tenant}", headers=page, **local).status_code == 401


def test_a_code_opens_one_frame(api: FlaskClient, key: str, session: Session, now: Any) -> None:
    code = exchange(api, minted(api, key)["token"]).get_json()["code"]
    opened = api.post("/widget/session", json={"code": code})
    assert opened.status_code == 200
    assert opened.headers["Cache-Control"] == "no-store"
    found = installation.widget_session(session, opened.get_json()["session"], now=now)
    assert found is not None
    assert (found.customer_ref, found.origin, found.origins) == ("c1", HOST, [HOST])
    assert api.post("/widget/session", json={"code": code}).status_code == 401
    assert api.post("/widget/session", json={"code": "x"}).status_code == 401


def test_of_two_frames_with_one_code_one_opens(
    api: FlaskClient, key: str, session: Session, now: Any
) -> None:
    code = exchange(api, minted(api, key)["token"]).get_json()["code"]
    with unit_of_work(session):
        frame = installation.widget_frame(session, code, now=now)
        assert frame is not None
        assert widgets.open_frame(session, frame, now=now) is not None
        assert widgets.open_frame(session, frame, now=now) is None


def test_a_code_is_of_no_use_after_thirty_seconds_or_without_its_token(
    api: FlaskClient, key: str, session: Session, tenant: str, now: Any
) -> None:
    made = minted(api, key)
    late, orphan = (exchange(api, made["token"]).get_json()["code"] for _ in range(2))
    at = now + timedelta(seconds=31)
    with unit_of_work(session):
        frame = installation.widget_frame(session, late, now=at)
        assert frame is not None
        assert widgets.open_frame(session, frame, now=at) is None
    api.delete(f"{TOKENS}/{made['id']}", headers=bearer(key))
    assert installation.widget_frame(session, orphan, now=now) is None


def test_a_session_ends_with_its_token(
    api: FlaskClient, key: str, session: Session, now: Any
) -> None:
    made = minted(api, key, ttlSeconds=60)
    code = exchange(api, made["token"]).get_json()["code"]
    secret = api.post("/widget/session", json={"code": code}).get_json()["session"]
    assert installation.widget_session(session, secret, now=now) is not None
    over = now + timedelta(seconds=62)
    assert installation.widget_session(session, secret, now=over) is None
    api.delete(f"{TOKENS}/{made['id']}", headers=bearer(key))
    session.rollback()
    assert installation.widget_session(session, secret, now=now) is None


def test_what_was_opened_is_forgotten_after_a_day_and_a_token_after_a_week(
    api: FlaskClient, key: str, session: Session, tenant: str, now: Any
) -> None:
    made = minted(api, key)
    exchange(api, made["token"])
    for hours, tokens, frames in ((23, 1, 1), (25, 1, 0), (6 * 24, 1, 0), (8 * 24, 0, 0)):
        with unit_of_work(session):
            installation.prune(session, now=now + timedelta(hours=hours))
            for table, left in ((WidgetToken, tokens), (WidgetFrame, frames)):
                assert session.query(table).filter_by(tenant_id=tenant).count() == left
    assert api.get(TOKENS, headers=bearer(key)).get_json() == {"tokens": []}
