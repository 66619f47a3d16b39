"""POST /v1/events/ingest as its clients know it: the batch, its keys and its verdicts."""

import json
from hashlib import sha256

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from tests.support import scalar
from tests.webapp.support import (
    TS,
    assert_problem,
    bearer,
    event,
    event_count,
    in_batch,
    ingest,
    raw_event,
    row_counts,
    send,
    statuses,
    stored,
)

CONFLICT = "idempotency key was already used for another event"


def test_the_documented_call_works_as_it_stands(client: FlaskClient) -> None:
    body = (
        '{"events":[{"tenantId":"your-tenant-id","metric":"api_calls",'
        '"customerRef":"cus_ABC123","quantity":100,"ts":"2025-01-16T14:30:00Z"}]}'
    )
    first = send(client, body)
    assert statuses(first) in (["accepted"], ["duplicate"])
    again = send(client, body).get_json()
    identity = '["your-tenant-id","api_calls","cus_ABC123",null,"2025-01-16T14:30:00.000000Z"]'
    assert again["results"] == [
        {
            "index": 0,
            "idempotencyKey": f"evt_678917e8{sha256(identity.encode()).hexdigest()[:24]}",
            "status": "duplicate",
            "derived": True,
        }
    ]


def test_the_answer_has_the_contracts_form(client: FlaskClient, tenant: str) -> None:
    answer = ingest(client, [event(tenant, idempotencyKey="a")], headers={"X-Request-Id": "r-1.2"})
    assert answer.mimetype == "application/json"
    assert answer.headers["X-Request-Id"] == "r-1.2"
    assert answer.get_json() == {
        "accepted": 1,
        "duplicates": 0,
        "rejected": 0,
        "requestId": "r-1.2",
        "results": [{"index": 0, "idempotencyKey": "a", "status": "accepted"}],
    }


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "é", "a\tb", '"', "<b>"])
def test_an_unusable_request_id_is_replaced(client: FlaskClient, tenant: str, given: str) -> None:
    answer = ingest(client, [event(tenant)], headers={"X-Request-Id": given})
    made = answer.headers["X-Request-Id"]
    assert made
    assert made != given
    assert answer.get_json()["requestId"] == made


def test_one_bad_event_never_takes_the_good_ones_down(
    client: FlaskClient, session: Session, tenant: str
) -> None:
    ingest(client, [event(tenant, idempotencyKey="old")])
    batch = [
        event(tenant, idempotencyKey="a"),
        event(tenant, idempotencyKey="b", quantity=-1),
        event(tenant, idempotencyKey="old"),
        event(tenant, idempotencyKey="old", quantity=2),
        "no object at all",
        event(tenant, idempotencyKey="a"),
        event(tenant, idempotencyKey="c"),
    ]
    answer = ingest(client, batch).get_json()
    assert [r["status"] for r in answer["results"]] == [
        "accepted", "error", "duplicate", "error", "error", "duplicate", "accepted",
    ]  # fmt: skip
    assert [r["index"] for r in answer["results"]] == list(range(7))
    assert [r["idempotencyKey"] for r in answer["results"]] == [
        "a", "b", "old", "old", None, "a", "c",
    ]  # fmt: skip
    assert (answer["accepted"], answer["duplicates"], answer["rejected"]) == (2, 2, 3)
    assert [e["index"] for e in answer["errors"]] == [1, 3, 4]
    assert answer["errors"][1]["error"] == CONFLICT
    assert [r.get("error") for r in answer["results"] if r["status"] == "error"] == [
        e["error"] for e in answer["errors"]
    ]
    assert event_count(session, tenant) == 3


def test_the_first_of_a_key_stays_whatever_comes_later(
    client: FlaskClient, session: Session, tenant: str
) -> None:
    ingest(client, [event(tenant, idempotencyKey="k", quantity="1.50", meta={"n": 1})])
    before = stored(session, tenant)
    same = event(tenant, idempotencyKey="k", quantity=1.5, meta={"n": 2}, source="retry",
                 ts="2026-01-16T15:30:00.000000+01:00")  # fmt: skip
    assert statuses(ingest(client, [same])) == ["duplicate"]
    for change in (
        {"metric": "x"}, {"customerRef": "x"}, {"resourceId": ""}, {"quantity": 1.51},
        {"ts": "2026-01-16T14:30:00.000001Z"},
    ):  # fmt: skip
        answer = ingest(client, [same | change]).get_json()
        assert answer["errors"] == [{"index": 0, "error": CONFLICT}], change
    assert stored(session, tenant) == before


def test_a_duplicate_by_a_derived_key_says_so(client: FlaskClient, tenant: str) -> None:
    batch = [event(tenant), event(tenant, resourceId="r"), event(tenant), event(tenant, quantity=2)]
    results = ingest(client, batch).get_json()["results"]
    assert [r["status"] for r in results] == ["accepted", "accepted", "duplicate", "error"]
    assert [r.get("derived") for r in results] == [None, None, True, None]
    assert results[0]["idempotencyKey"] == results[2]["idempotencyKey"]
    assert results[0]["idempotencyKey"] != results[1]["idempotencyKey"]
    named = ingest(client, [event(tenant, idempotencyKey=results[0]["idempotencyKey"])])
    assert "derived" not in named.get_json()["results"][0]


def test_a_header_key_names_the_request(client: FlaskClient, session: Session, tenant: str) -> None:
    batch = [event(tenant), event(tenant, idempotencyKey="own"), event(tenant)]
    key = {"Idempotency-Key": "K" * 250}
    first = ingest(client, batch, headers=key).get_json()
    assert [r["idempotencyKey"] for r in first["results"]] == [
        "K" * 250 + ":0", "own", "K" * 250 + ":2",
    ]  # fmt: skip
    assert first["accepted"] == 3
    again = ingest(client, batch, headers=key).get_json()
    assert [r["status"] for r in again["results"]] == ["duplicate"] * 3
    assert all("derived" not in r for r in again["results"])
    before = row_counts(session)
    mended = ingest(client, [*batch, event(tenant, quantity=9)], headers=key)
    assert_problem(mended, 422, pointer="/Idempotency-Key")
    assert row_counts(session) == before


def test_a_mended_batch_is_refused_though_parts_of_the_first_were_bad(
    client: FlaskClient, session: Session, tenant: str
) -> None:
    key = {"Idempotency-Key": "mend"}
    first = ingest(client, [event(tenant), event(tenant, quantity=-1)], headers=key).get_json()
    assert [r["idempotencyKey"] for r in first["results"]] == ["mend:0", "mend:1"]
    assert_problem(ingest(client, [event(tenant), event(tenant)], headers=key), 422)
    assert event_count(session, tenant) == 1


def test_a_batch_without_a_good_event_spends_its_key_too(
    shut: FlaskClient, tenant: str, key: str, nothing_written: None
) -> None:
    named = bearer(key) | {"Idempotency-Key": "all bad"}
    bad = [event(tenant, quantity=-1), "no object"]
    for _ in range(2):
        assert statuses(ingest(shut, bad, headers=named)) == ["error", "error"]
    assert_problem(ingest(shut, [event(tenant)], headers=named), 422)


def test_a_header_key_is_the_tenants_own(client: FlaskClient, tenant: str, stranger: str) -> None:
    key = {"Idempotency-Key": "same"}
    assert statuses(ingest(client, [event(tenant)], headers=key)) == ["accepted"]
    assert statuses(ingest(client, [event(stranger)], headers=key)) == ["accepted"]


@pytest.mark.parametrize("key", ["", "K" * 251, "a\x01b", "a\x7fb"])
def test_an_unusable_header_key_is_refused(
    client: FlaskClient, tenant: str, nothing_written: None, key: str
) -> None:
    assert_problem(ingest(client, [event(tenant)], headers={"Idempotency-Key": key}), 422)


def test_a_tenants_keys_say_nothing_of_anothers(
    shut: FlaskClient, tenant: str, key: str, stranger: str, strangers_key: str
) -> None:
    assert statuses(
        ingest(shut, [event(tenant, idempotencyKey="k")], headers=bearer(key))
    ) == ["accepted"]  # fmt: skip
    theirs = [event(stranger, idempotencyKey="k", quantity=7)]
    assert statuses(ingest(shut, theirs, headers=bearer(strangers_key))) == ["accepted"]


@pytest.mark.parametrize(
    "foreign",
    [
        {},
        {"quantity": -1},
        {"ts": "yesterday"},
        {"quantity": True, "metric": ""},
        {"surprise": 1},
        {"customerRef": None},
    ],
)
def test_an_element_of_another_tenant_refuses_the_whole(
    shut: FlaskClient,
    session: Session,
    tenant: str,
    stranger: str,
    key: str,
    foreign: dict[str, object],
) -> None:
    before = row_counts(session)
    batch = [event(tenant), event(stranger, **foreign), event(tenant, quantity="x")]
    refused = ingest(shut, batch, headers=bearer(key) | {"Idempotency-Key": "k"})
    assert "another tenant" in assert_problem(refused, 403)
    assert stranger not in refused.get_data(as_text=True)
    assert row_counts(session) == before


def test_a_foreign_tenant_behind_a_repeated_name_refuses_the_whole(
    shut: FlaskClient, tenant: str, stranger: str, key: str, nothing_written: None
) -> None:
    twice = raw_event(tenant, f'"tenantId": "{stranger}", "tenantId": "{tenant}"')
    assert_problem(send(shut, in_batch(raw_event(tenant), twice), headers=bearer(key)), 403)


def test_the_wall_holds_for_names_written_with_escapes(
    shut: FlaskClient, tenant: str, stranger: str, key: str, nothing_written: None
) -> None:
    escaped = json.dumps(event(stranger)).replace("tenantId", "tenant\\u0049d")
    assert_problem(send(shut, in_batch(escaped), headers=bearer(key)), 403)


def test_in_the_sandbox_one_batch_may_serve_several_tenants(
    client: FlaskClient, session: Session, tenant: str, stranger: str
) -> None:
    batch = [event(tenant), event(stranger), event(tenant, quantity=-1), event(stranger, ts=TS)]
    assert statuses(ingest(client, batch)) == ["accepted", "accepted", "error", "duplicate"]
    assert (event_count(session, tenant), event_count(session, stranger)) == (1, 1)


def test_a_tenant_is_made_by_being_named_in_the_sandbox_alone(
    client: FlaskClient, session: Session, tenant: str
) -> None:
    new = f"Zoë's “{tenant}” / #1"
    assert statuses(ingest(client, [event(new)])) == ["accepted"]
    assert scalar(session, "SELECT mode FROM tenants WHERE tenant_id = :t", t=new) == "test"


def test_an_ingest_does_not_need_redis(make_app, session: Session, tenant: str) -> None:
    app: Flask = make_app(redis_url="redis://127.0.0.1:1/0")
    answer = ingest(app.test_client(), [event(tenant)])
    assert statuses(answer) == ["accepted"]
    assert event_count(session, tenant) == 1
