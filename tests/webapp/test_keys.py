"""API keys over HTTP: what they open, what they cannot grant, and when they end."""

import hashlib
import re
from datetime import datetime, timedelta

import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from metering.database import unit_of_work
from metering.tenancy import scopes, tenants
from tests.webapp.support import (
    AppMaker,
    Clock,
    assert_problem,
    bearer,
    event,
    incompressible,
    ingest,
    make_key,
    row_counts,
    statuses,
    stored,
)

KEYS = "/v1/admin/api-keys"
NEW = {"name": "ci", "scopes": ["events:write"]}


def opens(client: FlaskClient, secret: str) -> bool:
    answer = client.get("/v1/events", headers=bearer(secret))
    assert answer.status_code in (200, 401)
    return answer.status_code == 200


def test_a_key_is_shown_once_and_works_in_both_headers(
    shut: FlaskClient, tenant: str, key: str
) -> None:
    made = shut.post(KEYS, json=NEW, headers=bearer(key))
    assert made.status_code == 201
    assert made.headers["Cache-Control"] == "no-store"
    new = made.get_json()
    assert re.fullmatch(r"sm_test_[0-9a-f]{16}_[A-Za-z0-9_-]{43}", new["secret"])
    assert (new["name"], new["scopes"], new["expiresAt"]) == ("ci", ["events:write"], None)
    for headers in (
        {"Authorization": f"Bearer {new['secret']}"},
        {"Authorization": f"bearer   {new['secret']} "},
        {"x-api-key": new["secret"]},
    ):
        assert ingest(shut, [event(tenant)], headers=headers).status_code == 200
    listed = shut.get(KEYS, headers=bearer(key))
    assert new["secret"] not in listed.get_data(as_text=True)
    assert "secret" not in listed.get_json()["keys"][0]
    assert new["id"] in [shown["id"] for shown in listed.get_json()["keys"]]


def test_no_secret_is_stored_in_clear(
    shut: FlaskClient, session: Session, tenant: str, key: str
) -> None:
    secret = shut.post(KEYS, json=NEW, headers=bearer(key)).get_json()["secret"]
    rows = str(stored(session, tenant))
    for clear in (secret, key):
        assert clear not in rows
        assert clear.split("_", 3)[3] not in rows  # which may itself hold an underscore
        assert clear.encode().hex() not in rows
        assert hashlib.sha256(clear.encode()).hexdigest() in rows


def test_the_prefix_tells_live_from_test(
    session: Session, tenant: str, key: str, now: datetime
) -> None:
    with unit_of_work(session):
        tenants.create(session, f"live-{tenant}", mode="live", now=now)
    assert make_key(session, f"live-{tenant}", ["all"], now=now).startswith("sm_live_")
    assert key.startswith("sm_test_")


@pytest.mark.parametrize(
    "token",
    [
        "sm_test_x", "sm_live_{rest}", "{key}x", "x{key}", "{key} {key}", "{short}", "sm_", "é",
        "Basic {key}", "{flipped}", "' OR 1=1 --", "{upper}",
    ],
)  # fmt: skip
def test_what_is_nearly_a_key_opens_nothing(shut: FlaskClient, key: str, token: str) -> None:
    flipped = key[:-1] + ("A" if key[-1] != "A" else "B")
    token = token.format(
        key=key, rest=key.removeprefix("sm_test_"), short=key[:-1], flipped=flipped,
        upper=key.upper(),
    )  # fmt: skip
    for headers in ({"Authorization": f"Bearer {token}"}, {"x-api-key": token}):
        refused = shut.get("/v1/events", headers=headers)
        assert_problem(refused, 401)
        assert refused.headers["WWW-Authenticate"].startswith('Bearer realm="stripemeter"')


def test_a_key_grants_no_scope_that_its_maker_lacks(
    shut: FlaskClient, session: Session, tenant: str, now: datetime
) -> None:
    maker = make_key(session, tenant, ["admin:write", "admin:read", "events:read"], now=now)
    counts = row_counts(session)
    for wanted in (["events:write"], ["all"], ["events:read", "usage:read"]):
        refused = shut.post(KEYS, json={"name": "x", "scopes": wanted}, headers=bearer(maker))
        assert_problem(refused, 403)
    assert row_counts(session) == counts
    strong = make_key(session, tenant, ["all"], now=now).split("_")[2]
    rotated = shut.post(f"{KEYS}/{strong}/rotate", json={}, headers=bearer(maker))
    assert_problem(rotated, 403)
    good = shut.post(KEYS, json={"name": "x", "scopes": ["events:read"]}, headers=bearer(maker))
    assert good.status_code == 201


@pytest.mark.parametrize(
    "bad",
    [
        {"scopes": []}, {"scopes": ["events"]}, {"scopes": ["events:delete"]}, {"scopes": "all"},
        {"scopes": ["all", "events:read"]}, {"scopes": [1]}, {"scopes": ["\ud800"]}, {"name": ""},
        {"scopes": ["events:read"] * 51}, {"name": "n" * 101}, {"name": "a\0"}, {"secret": "mine"},
        {"name": None}, {"scopes": None}, {"scopes": [" "]},
    ],
)  # fmt: skip
def test_a_bad_key_request_is_refused(
    shut: FlaskClient, session: Session, key: str, bad: dict[str, object]
) -> None:
    counts = row_counts(session)
    assert_problem(shut.post(KEYS, json=NEW | bad, headers=bearer(key)), 422)
    assert row_counts(session) == counts


def test_a_repeated_creation_makes_one_key(
    shut: FlaskClient, session: Session, tenant: str, key: str
) -> None:
    named = bearer(key) | {"Idempotency-Key": "once"}
    assert shut.post(KEYS, json=NEW, headers=named).status_code == 201
    before = stored(session, tenant)
    assert_problem(shut.post(KEYS, json=NEW, headers=named), 409)
    assert_problem(shut.post(KEYS, json=NEW | {"name": "x"}, headers=named), 422)
    assert stored(session, tenant) == before
    # The same name for an ingest names another request.
    assert statuses(ingest(shut, [event(tenant)], headers=named)) == ["accepted"]


@pytest.mark.parametrize("name", ["", incompressible(6000, alphabet="0123456789abcdefABCDEFxyz")])
def test_an_unusable_name_of_a_creation_is_refused(shut: FlaskClient, key: str, name: str) -> None:
    # A long one would break the index of keyed_requests.
    named = bearer(key) | {"Idempotency-Key": name}
    assert_problem(shut.post(KEYS, json=NEW, headers=named), 422)


def test_a_rotated_key_ends_after_its_grace(
    make_app: AppMaker, session: Session, tenant: str, clock: Clock
) -> None:
    client = make_app(clock=clock, sandbox=False).test_client()
    admin = make_key(session, tenant, ["all"], now=clock.at)
    old = make_key(session, tenant, ["events:read"], now=clock.at)
    rotate = f"{KEYS}/{old.split('_')[2]}/rotate"
    rotated = client.post(rotate, json={"graceSeconds": 60}, headers=bearer(admin))
    assert rotated.status_code == 201
    assert (rotated.get_json()["name"], rotated.get_json()["scopes"]) == (
        "made by a test",
        ["events:read"],
    )
    new = rotated.get_json()["secret"]
    assert (opens(client, old), opens(client, new)) == (True, True)
    assert_problem(client.post(rotate, json={}, headers=bearer(admin)), 409)
    clock.at += timedelta(seconds=60)
    assert (opens(client, old), opens(client, new)) == (False, True)


def test_a_revoked_key_is_refused_at_once(
    make_app: AppMaker, session: Session, tenant: str, clock: Clock
) -> None:
    client = make_app(clock=clock, sandbox=False).test_client()
    admin = make_key(session, tenant, ["all"], now=clock.at)
    doomed = make_key(session, tenant, ["events:read"], now=clock.at)
    url = f"{KEYS}/{doomed.split('_')[2]}"
    # Within its grace a key can still be revoked.
    client.post(f"{url}/rotate", json={"graceSeconds": 604_800}, headers=bearer(admin))
    assert opens(client, doomed)
    assert client.delete(url, headers=bearer(admin)).status_code == 204
    assert not opens(client, doomed)
    assert_problem(client.delete(url, headers=bearer(admin)), 404)
    assert client.delete(f"{KEYS}/{admin.split('_')[2]}", headers=bearer(admin)).status_code == 204
    assert not opens(client, admin)


def test_keys_of_another_tenant_do_not_exist(
    shut: FlaskClient, session: Session, tenant: str, key: str, strangers_key: str
) -> None:
    before = stored(session, tenant)
    theirs = bearer(strangers_key)
    key_id = key.split("_")[2]
    assert_problem(shut.delete(f"{KEYS}/{key_id}", headers=theirs), 404)
    assert_problem(shut.post(f"{KEYS}/{key_id}/rotate", json={}, headers=theirs), 404)
    assert key_id not in shut.get(KEYS, headers=theirs).get_data(as_text=True)
    assert stored(session, tenant) == before


@pytest.mark.parametrize("grace", [-1, 604_801, 1.5, "60", True, None])
def test_a_grace_is_whole_seconds_up_to_a_week(shut: FlaskClient, key: str, grace: object) -> None:
    rotate = f"{KEYS}/{key.split('_')[2]}/rotate"
    answer = shut.post(rotate, json={"graceSeconds": grace}, headers=bearer(key))
    assert_problem(answer, 422, pointer="/graceSeconds")


def test_scopes_are_the_contracts() -> None:
    areas = (
        "events", "usage", "mappings", "reconciliation", "adjustments", "alerts", "simulations",
        "widget", "admin",
    )  # fmt: skip
    assert {f"{area}:{right}" for area in areas for right in ("read", "write")} == scopes.ALL
