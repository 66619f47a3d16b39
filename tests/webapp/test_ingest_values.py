"""What an event may say, member by member: taken exactly, or refused with the reason."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from tests.support import scalar
from tests.webapp.support import event, ingest, raw_batch, send, statuses, stored

LONG = "9" * 5000


def refusal(client: FlaskClient, tenant: str, member: str) -> str:
    """The reason why an event with this member is refused, its neighbours being accepted."""
    answer = send(client, raw_batch(tenant, '"resourceId": "before"', member, '"source": "z"'))
    assert statuses(answer) == ["accepted", "error", "accepted"]
    reason: str = answer.get_json()["errors"][0]["error"]
    return reason


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        ('"quantity": true', "number"),
        ('"quantity": null', "null"),
        ('"quantity": "abc"', "number"),
        ('"quantity": ""', "number"),
        ('"quantity": " 12 "', "number"),
        ('"quantity": "1_000"', "number"),
        ('"quantity": "1,000"', "number"),
        ('"quantity": "+1"', "number"),
        ('"quantity": ".5"', "number"),
        ('"quantity": "5."', "number"),
        ('"quantity": "0x10"', "number"),
        ('"quantity": "NaN"', "number"),
        ('"quantity": NaN', "number"),
        ('"quantity": Infinity', "number"),
        ('"quantity": -Infinity', "number"),
        ('"quantity": "١٢"', "number"),
        ('"quantity": "12\\n"', "number"),
        ('"quantity": 1e400', "number"),
        ('"quantity": 1e20', "20 digits"),
        ('"quantity": 123456789012345678901', "20 digits"),
        (f'"quantity": {LONG}', "number"),
        (f'"quantity": "{LONG}"', "number"),
        ('"quantity": 0.0000000000001', "12 decimals"),
        ('"quantity": 1e-13', "12 decimals"),
        ('"quantity": 0.30000000000000004', "12 decimals"),
        ('"quantity": [1]', "number"),
        ('"quantity": {}', "number"),
        ('"quantity": -1', "void the event or make an adjustment"),
        ('"quantity": "-0.5"', "void the event or make an adjustment"),
        ('"quantity": -1e-12', "void the event or make an adjustment"),
        ('"ts": null', "null"),
        ('"ts": 1768573800', "ISO 8601"),
        ('"ts": ""', "ISO 8601"),
        ('"ts": "2026-01-16"', "ISO 8601"),
        ('"ts": "2026-01-16T14:30:00"', "offset"),
        ('"ts": "2026-01-16 14:30:00Z"', "ISO 8601"),
        ('"ts": "2026-01-16T14:30Z"', "seconds"),
        ('"ts": "2026-01-16T14:30:00z"', "ISO 8601"),
        ('"ts": "2026-01-16T14:30:00+0100"', "offset"),
        ('"ts": "2026-01-16T14:30:00+16:00"', "offset"),
        ('"ts": "2026-01-16T14:30:00Z\\n"', "ISO 8601"),
        ('"ts": "٢٠٢٦-01-16T14:30:00Z"', "ISO 8601"),
        ('"ts": "2026-01-16T23:59:59.9999996Z"', "6 fractional digits"),
        ('"ts": "2026-01-16T14:30:00.Z"', "fractional"),
        ('"ts": "2025-12-31T23:59:60Z"', "not a real date and time"),
        ('"ts": "2026-01-16T24:00:00Z"', "not a real date and time"),
        ('"ts": "2026-02-29T12:00:00Z"', "not a real date and time"),
        ('"ts": "0000-01-01T00:00:00Z"', "not a real date and time"),
        ('"ts": "1999-12-31T23:59:59Z"', "2000"),
        ('"ts": "2100-01-01T00:00:00Z"', "2100"),
        ('"tenantId": ""', "tenantId"),
        ('"tenantId": 5', "tenantId"),
        ('"tenantId": "a\\u0000b"', "tenantId"),
        ('"tenantId": "a\\nb"', "tenantId"),
        ('"metric": ""', "metric"),
        ('"metric": 5', "metric"),
        ('"metric": null', "metric"),
        ('"metric": "a\\u0000"', "NUL"),
        ('"metric": "\\ud800"', "lone surrogate"),
        (json.dumps("metric") + ": " + json.dumps("m" * 101), "100"),
        ('"customerRef": "\\udfff\\ud800"', "lone surrogate"),
        ('"customerRef": ' + json.dumps("c" * 256), "255"),
        ('"idempotencyKey": ""', "idempotencyKey"),
        ('"idempotencyKey": "a\\u0000"', "NUL"),
        ('"idempotencyKey": ' + json.dumps("k" * 256), "255"),
        ('"resourceId": ' + json.dumps("r" * 256), "255"),
        ('"resourceId": "\\u0000"', "NUL"),
        ('"source": ' + json.dumps("s" * 65), "64"),
        ('"source": true', "source"),
        ('"meta": []', "object"),
        ('"meta": "{}"', "object"),
        ('"meta": {"a": NaN}', "NaN"),
        ('"meta": {"a": "\\u0000"}', "NUL"),
        ('"meta": {"\\u0000": 1}', "NUL"),
        ('"meta": {"a": ["\\ud800"]}', "lone surrogate"),
        ('"meta": ' + json.dumps({"a": "x" * 4089}), "4096 bytes"),
        ('"meta": ' + json.dumps({"a": "é" * 2045}, ensure_ascii=False), "4096 bytes"),
        ('"meta": ' + '{"a": ' * 33 + "1" + "}" * 33, "nested deeper"),
        ('"meta": {"a": ' + "[" * 400 + "]" * 400 + "}", "nested deeper"),
        ('"surprise": 1', "surprise"),
        ('"tenant_id": "x"', "tenant_id"),
        ('"quantity": 1, "quantity": 2', "quantity: stands twice"),
        ('"quantity": 1, "quantity": 1', "quantity: stands twice"),
        ('"quantity": 1, "quant\\u0069ty": 2', "quantity: stands twice"),
        ('"m\\u0065ta": {}, "meta": {"a": 1}', "meta: stands twice"),
        ('"idempotencyKey": "a", "idempotencyKey": null', "idempotencyKey: stands twice"),
    ],
)  # fmt: skip
def test_a_bad_member_is_refused_and_says_why(
    client: FlaskClient, tenant: str, member: str, reason: str
) -> None:
    assert reason in refusal(client, tenant, member)


@pytest.mark.parametrize("name", ["tenantId", "metric", "customerRef", "quantity", "ts"])
def test_a_missing_member_is_named(client: FlaskClient, tenant: str, name: str) -> None:
    batch = [event(tenant), event(tenant, **{name: None})]
    answer = ingest(client, batch).get_json()
    assert answer["accepted"] == 1
    assert answer["errors"][0]["error"].startswith(f"{name}: ")


def test_every_error_of_an_event_is_named(client: FlaskClient, tenant: str) -> None:
    answer = ingest(client, [event(tenant, quantity=-1, ts="x", metric="")]).get_json()
    for name in ("quantity: ", "ts: ", "metric: "):
        assert name in answer["errors"][0]["error"]


@pytest.mark.parametrize(
    "written",
    [
        "0", "-0", "0.0", "1e-12", '"1e-7"', "1E+2", "1e19", "0.1",
        "9007199254740993", "99999999999999999999.999999999999", '"00012.50"', '"007"',
        "123456789012345", "1.000000000000000000000",
    ],
)  # fmt: skip
def test_a_quantity_is_kept_to_the_digit(
    client: FlaskClient, session: Session, tenant: str, written: str
) -> None:
    answer = send(client, raw_batch(tenant, f'"quantity": {written}'))
    assert statuses(answer) == ["accepted"]
    kept = scalar(session, "SELECT quantity FROM events WHERE tenant_id = :t", t=tenant)
    assert kept == Decimal(written.strip('"'))
    shown = client.get("/v1/events", query_string={"tenantId": tenant}).get_json()["events"][0]
    assert Decimal(shown["quantity"]) == kept
    assert "E" not in shown["quantity"].upper()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-01-16T14:30:00.123456Z", "2026-01-16T14:30:00.123456+00:00"),
        ("2026-01-16T14:30:00.1Z", "2026-01-16T14:30:00.100000+00:00"),
        ("2026-01-16T23:59:59.999999-05:00", "2026-01-17T04:59:59.999999+00:00"),
        ("2026-01-16T00:00:00+15:59", "2026-01-15T08:01:00+00:00"),
        ("2026-01-16T00:00:00-00:00", "2026-01-16T00:00:00+00:00"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00+00:00"),
        ("2000-01-01T00:00:00Z", "2000-01-01T00:00:00+00:00"),
    ],
)
def test_a_timestamp_is_kept_to_the_microsecond(
    client: FlaskClient, session: Session, tenant: str, written: str, meant: str
) -> None:
    assert statuses(ingest(client, [event(tenant, ts=written)])) == ["accepted"]
    kept = scalar(session, "SELECT occurred_at FROM events WHERE tenant_id = :t", t=tenant)
    assert kept == datetime.fromisoformat(meant)


def test_an_instant_before_2000_is_one_in_every_offset(client: FlaskClient, tenant: str) -> None:
    # This one is 1999-12-31T19:00Z, where `unique.fill` would never look.
    assert "2000" in refusal(client, tenant, '"ts": "2000-01-01T00:00:00+05:00"')


def test_an_instant_is_judged_by_the_servers_clock(client: FlaskClient, tenant: str) -> None:
    now = datetime.now(UTC)
    soon = (now + timedelta(minutes=59)).isoformat()
    late = (now + timedelta(hours=2)).astimezone(UTC).isoformat()
    answer = ingest(client, [event(tenant, ts=soon), event(tenant, ts=late)]).get_json()
    assert [r["status"] for r in answer["results"]] == ["accepted", "error"]
    assert "1 hour ahead" in answer["errors"][0]["error"]


def test_lengths_are_counted_in_characters(client: FlaskClient, tenant: str) -> None:
    longest = event(
        tenant, metric="😀" * 100, customerRef="é" * 255, idempotencyKey="💥" * 255,
        resourceId="字" * 255, source="ß" * 64, meta={"a": "é" * 2044},
    )  # fmt: skip
    assert statuses(ingest(client, [longest])) == ["accepted"]


@pytest.mark.parametrize(
    "meta",
    [
        "{}",
        '{"b": 1, "a": {"z": [], "y": null}}',
        '{"n": 1.10, "big": 12345678901234567890123, "tiny": 1e-400, "minus": -0}',
        '{ "spaced" :\t[ 1 ,\n 2 ] }',
        '{"esc": "\\u00e9\\n\\/\\"", "emoji": "\\ud83d\\ude00"}',
        '{"tenantId": "other", "quantity": -1, "events": [{"ts": 1}]}',
        '{"a": 1, "a": 2}',
    ],
)
def test_meta_comes_back_as_the_object_that_was_sent(
    client: FlaskClient, tenant: str, meta: str
) -> None:
    assert statuses(send(client, raw_batch(tenant, f'"meta": {meta}'))) == ["accepted"]
    listed = client.get("/v1/events", query_string={"tenantId": tenant})

    def exactly(text: str) -> object:
        return json.loads(text, parse_float=str, parse_int=str, object_pairs_hook=list)

    shown = dict(dict(exactly(listed.get_data(as_text=True)))["events"][0])["meta"]
    assert shown == exactly(meta)


def test_null_stands_for_an_optional_member_that_is_absent(
    client: FlaskClient, session: Session, tenant: str
) -> None:
    nulls = ", ".join(f'"{n}": null' for n in ("resourceId", "meta", "source", "idempotencyKey"))
    body = raw_batch(tenant, nulls, '"quantity": 1')
    assert statuses(send(client, body)) == ["accepted", "duplicate"]
    assert len(stored(session, tenant)["unfolded"]) == 1
