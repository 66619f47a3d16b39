"""/v1/events/backfill over HTTP: what is sent, what breaks off, what is told of it."""

import csv
import gzip
import io
import json
import socket
import threading
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session
from werkzeug.serving import make_server

from metering.ledger import uploads
from tests.backfills import HEADER, TS, counts, csv_of, line, parts_left, read
from tests.support import scalar
from tests.webapp.support import assert_problem, bearer, connections_in_use, make_key
from webapp.queues import Hints

URL = "/v1/events/backfill"
CSV, NDJSON = "text/csv", "application/x-ndjson"


@pytest.fixture(autouse=True)
def hinted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is enqueued."""
    noted: list[tuple[str, str]] = []
    monkeypatch.setattr(Hints, "read_backfill", lambda _, *which: noted.append(which))
    return noted


def send(client: FlaskClient, tenant: str, body: bytes, kind: str = CSV, **options: Any) -> Any:
    query = {"tenantId": tenant, "reason": "a test"} | options.pop("query", {})
    return client.post(URL, data=body, content_type=kind, query_string=query, **options)


def look(client: FlaskClient, tenant: str, backfill_id: str) -> dict[str, Any]:
    answer = client.get(f"{URL}/{backfill_id}", query_string={"tenantId": tenant})
    assert answer.status_code == 200, answer.text
    return dict(answer.get_json())


def taken(answer: Any) -> str:
    assert answer.status_code == 202, answer.text
    return str(answer.get_json()["id"])


def test_a_csv_is_received_read_and_told_of(
    client: FlaskClient, session: Session, tenant: str, hinted: list[tuple[str, str]]
) -> None:
    body = csv_of(30) + line(30, "many").encode() + line(2).encode() + line(2, 9).encode()
    named = {"fileName": "märz.csv", "late": "set_aside"}
    answer = send(client, tenant, body, query=named)
    backfill_id = taken(answer)
    assert answer.headers["Location"] == f"{URL}/{backfill_id}"
    assert hinted == [(tenant, backfill_id)]
    waiting = answer.get_json()
    assert (waiting["state"], waiting["totalBytes"]) == ("waiting", len(body))
    assert waiting["processed"] == waiting["processedBytes"] == 0
    read(session, tenant, backfill_id)
    done = look(client, tenant, backfill_id)
    assert {name: done[name] for name in ("state", "format", "fileName", "late", "reason")} == {
        "state": "done", "format": "csv", "fileName": "märz.csv", "late": "set_aside",
        "reason": "a test",
    }  # fmt: skip
    assert (done["processed"], done["accepted"], done["duplicates"], done["failed"]) == (
        34, 30, 1, 2,
    )  # fmt: skip
    assert done["processedBytes"] == len(body)
    assert [each["line"] for each in done["errors"]] == [32, 34]
    assert done["errors"][0]["excerpt"].startswith("api_calls,cus_0,many")
    assert done["actor"] == "sandbox"
    assert done["finishedAt"]
    (listed,) = client.get(URL, query_string={"tenantId": tenant}).get_json()["backfills"]
    assert listed == {name: value for name, value in done.items() if name != "errors"}


def test_json_lines_and_json_events_take_the_same_way(
    client: FlaskClient, session: Session, tenant: str
) -> None:
    event = {"metric": "m", "customerRef": "c", "quantity": 1, "ts": TS, "idempotencyKey": "k"}
    first = taken(send(client, tenant, json.dumps(event).encode() + b"\n", NDJSON))
    assert counts(read(session, tenant, first)) == (1, 0, 0)
    # Digits that no float holds, a line feed between members, and a mistake.
    text = json.dumps(
        {"tenantId": tenant, "reason": "r", "events": [event, {"metric": "m"}, event | {
            "idempotencyKey": "k2", "quantity": 7}]}, indent=1,
    ).replace('"quantity": 7', '"quantity": 12345678901234567890.123456789012')  # fmt: skip
    second = taken(client.post(URL, data=text, content_type="application/json"))
    assert counts(read(session, tenant, second)) == (1, 1, 1)
    stored = "SELECT quantity::text FROM events WHERE tenant_id = :t AND idempotency_key = 'k2'"
    assert scalar(session, stored, t=tenant) == "12345678901234567890.123456789012"
    shown = look(client, tenant, second)
    assert (shown["format"], [each["line"] for each in shown["errors"]]) == ("ndjson", [2])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("[]", 400),
        ("{", 400),
        ('{"events": [{}], "events": [{}], "reason": "r"}', 400),
        ('{"events": [{}], "reason": "r", "reason": "s"}', 400),
        ('{"events": [], "reason": "r"}', 422),
        ('{"events": {}, "reason": "r"}', 422),
        ('{"reason": "r"}', 422),
        ('{"events": [{}]}', 422),
        ('{"events": [{}], "reason": ""}', 422),
        ('{"events": [{}], "reason": " "}', 422),
        ('{"events": [{}], "reason": "r", "late": "never"}', 422),
        ('{"events": [{}], "reason": 1}', 422),
        ('{"events": [{}], "reason": "r", "surprise": 1}', 422),
        ('{"events": [{"tenantId": "other"}], "reason": "r"}', 403),
        ('{"tenantId": "other", "events": [{}], "reason": "r"}', 403),
        ('{"events": [' + "[" * 100_000, 400),
    ],
)
def test_a_body_that_is_none_is_refused_whole(
    shut: FlaskClient, session: Session, tenant: str, key: str, body: str, status: int
) -> None:
    answer = shut.post(URL, data=body, content_type="application/json", headers=bearer(key))
    assert_problem(answer, status)
    assert scalar(session, "SELECT count(*) FROM backfills WHERE tenant_id = :t", t=tenant) == 0


def test_what_a_file_must_say(shut: FlaskClient, tenant: str, key: str) -> None:
    def answer(kind: str, query: dict[str, str], **headers: str) -> Any:
        return shut.post(URL, data=b"x", content_type=kind, query_string=query,
                         headers=bearer(key) | headers)  # fmt: skip

    reason = {"reason": "r"}
    assert_problem(answer(CSV, {}), 422, pointer="/reason")
    assert_problem(answer(CSV, reason | {"late": "never"}), 422, pointer="/late")
    assert_problem(answer(CSV, reason | {"tenantId": "other"}), 403)
    for kind in ("text/plain", "application/octet-stream", "multipart/form-data; boundary=b", ""):
        assert_problem(answer(kind, reason), 415)
    assert "UTF-8" in assert_problem(answer("text/csv; charset=iso-8859-1", reason), 415)
    assert_problem(answer(CSV, reason, **{"Content-Encoding": "br"}), 415)
    assert answer("text/csv; charset=UTF-8", reason).status_code == 202


def test_it_may_be_larger_than_any_other_body(
    client: FlaskClient, session: Session, tenant: str
) -> None:
    body = csv_of(10) + b"\n" * (9 * 1024 * 1024)
    backfill_id = taken(send(client, tenant, body))
    assert parts_left(session, tenant, backfill_id) == 10
    assert counts(read(session, tenant, backfill_id)) == (10, 0, 0)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip"])
def test_gzip_is_unpacked_as_it_comes(
    client: FlaskClient, session: Session, tenant: str, encoding: str
) -> None:
    # Two streams behind each other, as `cat a.gz b.gz` makes them.
    body = gzip.compress(csv_of(5)) + gzip.compress(line(5).encode())
    answer = send(client, tenant, body, headers={"Content-Encoding": encoding})
    assert answer.get_json()["totalBytes"] == len(csv_of(6))
    assert counts(read(session, tenant, taken(answer))) == (6, 0, 0)


@pytest.mark.parametrize(
    "body", [b"no gzip", gzip.compress(csv_of(50))[:-9], gzip.compress(csv_of(5)) + b"tail"]
)
def test_broken_gzip_is_not_begun(
    client: FlaskClient, session: Session, tenant: str, hinted: list[Any], body: bytes
) -> None:
    answer = send(client, tenant, body, headers={"Content-Encoding": "gzip"})
    assert "gzip" in assert_problem(answer, 400)
    assert look(client, tenant, answer.headers["Location"].rpartition("/")[2])["state"] == (
        "incomplete"
    )
    assert hinted == []


def test_a_gzip_bomb_is_only_a_stream(client: FlaskClient, session: Session, tenant: str) -> None:
    squeezer = zlib.compressobj(9, wbits=16 + zlib.MAX_WBITS)
    blank = b"\n" * (1024 * 1024)
    bomb = b"".join(squeezer.compress(blank) for _ in range(48)) + squeezer.flush()
    assert len(bomb) < 100_000
    tracemalloc.start()
    answer = send(client, tenant, bomb, NDJSON, headers={"Content-Encoding": "gzip"})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer.get_json()["totalBytes"] == 48 * 1024 * 1024
    assert peak < 12 * 1024 * 1024
    assert parts_left(session, tenant, taken(answer)) == 48


def test_a_named_request_is_one_backfill(
    client: FlaskClient, session: Session, tenant: str, hinted: list[Any]
) -> None:
    named = {"headers": {"Idempotency-Key": "march"}}
    first = taken(send(client, tenant, csv_of(5), **named))
    assert taken(send(client, tenant, csv_of(5), **named)) == first
    assert len(hinted) == 1
    otherwise = send(client, tenant, csv_of(5), **named, query={"late": "set_aside"})
    assert "reason, late, fileName" in assert_problem(otherwise, 422)
    assert counts(read(session, tenant, first)) == (5, 0, 0)
    again = send(client, tenant, csv_of(5), **named)
    assert (taken(again), again.get_json()["state"]) == (first, "done")
    events = {"tenantId": tenant, "reason": "r", "events": [{"metric": "m"}]}
    second = taken(client.post(URL, json=events, **named | {"headers": {"Idempotency-Key": "j"}}))
    assert taken(client.post(URL, json=events, headers={"Idempotency-Key": "j"})) == second
    other = events | {"events": [{"metric": "n"}]}
    assert_problem(client.post(URL, json=other, headers={"Idempotency-Key": "j"}), 422)


@pytest.fixture
def served(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The app on a real socket; its port."""
    monkeypatch.setattr(uploads, "PART_BYTES", 400)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def break_off(port: int, tenant: str, body: bytes, sent: int, name: str) -> None:
    """Announce a whole file, send some of it, and hang up."""
    head = (
        f"POST {URL}?tenantId={tenant}&reason=r HTTP/1.1\r\nHost: localhost:{port}\r\n"
        f"Content-Type: text/csv\r\nContent-Length: {len(body)}\r\nIdempotency-Key: {name}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + body[:sent])
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


def broken(client: FlaskClient, tenant: str) -> dict[str, Any]:
    (found,) = client.get(URL, query_string={"tenantId": tenant}).get_json()["backfills"]
    assert found["state"] == "incomplete"
    return dict(found)


def test_a_lost_connection_leaves_a_file_to_be_continued(
    client: FlaskClient, session: Session, app: Flask, tenant: str, served: int, hinted: list[Any]
) -> None:
    body = csv_of(60)
    break_off(served, tenant, body, 1500, "march")
    found = broken(client, tenant)
    assert found["totalBytes"] == 1500
    assert "offset=1500" in found["error"]
    assert hinted == []
    assert scalar(session, "SELECT count(*) FROM events WHERE tenant_id = :t", t=tenant) == 0
    where = f"{URL}/{found['id']}"

    def go_on(offset: int, rest: bytes, kind: str = CSV) -> Any:
        query = {"tenantId": tenant, "offset": offset}
        return client.put(where, data=rest, content_type=kind, query_string=query)

    assert "offset=1500" in assert_problem(go_on(0, body), 409)
    assert_problem(go_on(1500, body[1500:], NDJSON), 422)
    assert taken(go_on(1500, body[1500:])) == found["id"]
    assert "received whole" in assert_problem(go_on(len(body), b""), 409)
    assert counts(read(session, tenant, found["id"])) == (60, 0, 0)
    assert connections_in_use(app) == 0


def test_a_named_file_is_sent_again_from_its_beginning(
    client: FlaskClient, session: Session, tenant: str, served: int
) -> None:
    body, named = csv_of(60), {"headers": {"Idempotency-Key": "march"}, "query": {"reason": "r"}}
    break_off(served, tenant, body, 1500, "march")
    found = broken(client, tenant)
    other = body.replace(b"cus_1", b"cus_9")
    assert "another file" in assert_problem(send(client, tenant, other, **named), 422)
    break_off(served, tenant, body, 700, "march")  # shorter than what is there: nothing is lost
    assert broken(client, tenant)["totalBytes"] == 1500
    break_off(served, tenant, body, 2100, "march")
    assert broken(client, tenant)["totalBytes"] == 2100
    assert taken(send(client, tenant, body, **named)) == found["id"]
    done = read(session, tenant, found["id"])
    assert (counts(done), done.bytes_done) == ((60, 0, 0), len(body))


def test_every_bad_line_can_be_read_and_downloaded(
    client: FlaskClient, session: Session, tenant: str
) -> None:
    bad = [line(i, "=1+1") for i in range(1, 251)]
    body = f"{HEADER}\n{line(0)}{''.join(bad)}".encode()
    backfill_id = taken(send(client, tenant, body))
    read(session, tenant, backfill_id)
    assert len(look(client, tenant, backfill_id)["errors"]) == 100
    lines, query = [], {"tenantId": tenant, "limit": "90"}
    while True:
        answer = client.get(f"{URL}/{backfill_id}/errors", query_string=query).get_json()
        lines += [each["line"] for each in answer["errors"]]
        if answer["nextCursor"] is None:
            break
        query["cursor"] = answer["nextCursor"]
    assert lines == list(range(3, 253))
    whole = client.get(
        f"{URL}/{backfill_id}/errors", query_string={"tenantId": tenant, "format": "csv"}
    )
    assert whole.mimetype == CSV
    rows = list(csv.DictReader(io.StringIO(whole.text)))
    assert [int(row["line"]) for row in rows] == lines
    assert "must be a number" in rows[0]["message"]
    for cursor in ("x", "WyJ4Il0=", "WyItMSJd"):
        asked = {"tenantId": tenant, "cursor": cursor}
        assert_problem(client.get(f"{URL}/{backfill_id}/errors", query_string=asked), 422)


def test_bad_line_70_001_is_named(client: FlaskClient, session: Session, tenant: str) -> None:
    lines = [f"m,c,1,2026-10-01T00:00:00.{i:06d}Z\n" for i in range(70_500)]
    lines[69_999] = "m,c,2026-10-01T00:00:00Z,1\n"
    body = f"metric,customerRef,quantity,ts\n{''.join(lines)}".encode()
    backfill_id = taken(send(client, tenant, body))
    assert counts(read(session, tenant, backfill_id)) == (70_499, 0, 1)
    (error,) = look(client, tenant, backfill_id)["errors"]
    assert error["line"] == 70_001
    assert "are columns swapped?" in error["message"]


def test_the_list_is_paged_and_ids_are_ones_own(
    shut: FlaskClient, session: Session, tenant: str, key: str, strangers_key: str, now: Any
) -> None:
    made = [
        taken(shut.post(URL, data=csv_of(1), content_type=CSV, query_string={"reason": "r"},
                        headers=bearer(key)))
        for _ in range(3)
    ]  # fmt: skip
    first = shut.get(URL, query_string={"limit": 2}, headers=bearer(key)).get_json()
    rest = shut.get(
        URL, query_string={"cursor": first["nextCursor"]}, headers=bearer(key)
    ).get_json()
    assert [each["id"] for each in first["backfills"] + rest["backfills"]] == made[::-1]
    assert first["backfills"][0]["actor"].startswith("key:")
    for path in (made[0], f"{made[0]}/errors", "none", "no%00ne", "n" * 99):
        assert_problem(shut.get(f"{URL}/{path}", headers=bearer(strangers_key)), 404)
    weak = make_key(session, tenant, ["events:read"], now=now)
    refused = shut.post(URL, data=b"", content_type=CSV, query_string={"reason": "r"},
                        headers=bearer(weak))  # fmt: skip
    assert "events:write" in assert_problem(refused, 403)
    assert shut.get(f"{URL}/{made[0]}", headers=bearer(weak)).status_code == 200


def test_the_sandboxes_door_is_as_shut_for_files_as_for_json(
    client: FlaskClient, tenant: str
) -> None:
    # What a page of another site can send without being asked for it stays out.
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert_problem(send(client, tenant, b"x", kind), 401)
    elsewhere = {"headers": {"Origin": "https://elsewhere.example"}}
    assert_problem(send(client, tenant, csv_of(1), **elsewhere), 401)
    assert send(client, tenant, csv_of(1)).status_code == 202
