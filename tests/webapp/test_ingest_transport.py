"""What reaches ingest as bytes: its type, its size, its compression, and whether it can be read."""

import gzip
import io
import json
import zlib

import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from tests.webapp.support import (
    INGEST,
    assert_problem,
    event,
    event_count,
    ingest,
    raw_batch,
    send,
    statuses,
)

MIB = 1024 * 1024
pytestmark = pytest.mark.usefixtures("session")


def batch_of_size(tenant: str, size: int) -> bytes:
    """A good batch of exactly `size` bytes: JSON may hold any white space."""
    body = json.dumps({"events": [event(tenant)]}).encode()
    return body + b" " * (size - len(body))


def gzipped(client: FlaskClient, body: bytes, encoding: str = "gzip"):
    return send(client, body, headers={"Content-Encoding": encoding})


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", " gzip "])
def test_gzip_is_understood(client: FlaskClient, tenant: str, encoding: str) -> None:
    body = gzip.compress(json.dumps({"events": [event(tenant)]}).encode())
    assert statuses(gzipped(client, body, encoding)) == ["accepted"]


def test_a_named_request_is_the_same_with_and_without_gzip(
    client: FlaskClient, tenant: str
) -> None:
    body = json.dumps({"events": [event(tenant)]}).encode()
    key = {"Idempotency-Key": "zip"}
    assert statuses(send(client, body, headers=key)) == ["accepted"]
    again = send(client, gzip.compress(body), headers=key | {"Content-Encoding": "gzip"})
    assert statuses(again) == ["duplicate"]


@pytest.mark.parametrize(
    "broken",  # no time of today in them: every process has to find the same names
    [
        b"",
        b"not gzip",
        gzip.compress(b'{"events": []}', mtime=0)[:-4],
        gzip.compress(b'{"events": []}', mtime=0)[:12],
        gzip.compress(b'{"events": []}', mtime=0) + b"tail",
        zlib.compress(b'{"events": []}'),
        gzip.compress(b"{}", mtime=0)[:-8] + b"\0" * 8,
    ],
)
def test_broken_gzip_cannot_be_read(client: FlaskClient, broken: bytes) -> None:
    assert_problem(gzipped(client, broken), 400)


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zstd", "identity, gzip"])
def test_other_encodings_are_refused(client: FlaskClient, tenant: str, encoding: str) -> None:
    body = json.dumps({"events": [event(tenant)]}).encode()
    refused = gzipped(client, body, encoding)
    assert_problem(refused, 415)
    assert refused.headers["Accept-Encoding"] == "gzip"


def test_eight_mebibytes_are_taken_and_not_a_byte_more(
    client: FlaskClient, session: Session, tenant: str
) -> None:
    assert statuses(send(client, batch_of_size(tenant, 8 * MIB))) == ["accepted"]
    assert_problem(send(client, batch_of_size(tenant, 8 * MIB + 1)), 413)
    assert statuses(gzipped(client, gzip.compress(batch_of_size(tenant, 8 * MIB), 1))) == [
        "duplicate"
    ]
    assert_problem(gzipped(client, gzip.compress(batch_of_size(tenant, 8 * MIB + 1), 1)), 413)
    assert event_count(session, tenant) == 1


def test_a_gzip_bomb_is_stopped_at_the_limit(client: FlaskClient) -> None:
    squeezer = zlib.compressobj(6, wbits=16 + zlib.MAX_WBITS)
    bomb = b"".join(squeezer.compress(b" " * MIB) for _ in range(128)) + squeezer.flush()
    assert len(bomb) < MIB
    assert_problem(gzipped(client, bomb), 413)


def test_a_body_of_unannounced_length_is_limited_too(client: FlaskClient, tenant: str) -> None:
    def sent_in_chunks(body: bytes):
        return client.post(
            INGEST,
            input_stream=io.BytesIO(body),
            content_type="application/json",
            headers={"Transfer-Encoding": "chunked"},
            environ_overrides={"wsgi.input_terminated": True},
        )

    assert statuses(sent_in_chunks(batch_of_size(tenant, 1000))) == ["accepted"]
    # Werkzeug's LimitedStream.readall() stops at its limit without a word.
    assert_problem(sent_in_chunks(batch_of_size(tenant, 8 * MIB + 1)), 413)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_what_is_not_json_by_type_is_refused(
    shut: FlaskClient, tenant: str, key: str, nothing_written: None, kind: str
) -> None:
    body = json.dumps({"events": [event(tenant)]})
    refused = shut.post(INGEST, data=body, content_type=kind, headers={"x-api-key": key})
    assert_problem(refused, 415)


def test_json_with_a_charset_is_json(client: FlaskClient, tenant: str) -> None:
    body = json.dumps({"events": [event(tenant, metric="größe")]}, ensure_ascii=False).encode()
    kind = "application/json; charset=utf-8"
    assert statuses(client.post(INGEST, data=body, content_type=kind)) == ["accepted"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"events"',
        b"{}",
        b'{"events": {}}',
        b'{"events": null}',
        b'{"events": []}',
        b'{"events": [], "events": []}',
        b'{"events": [1], "more": 1}',
        b'{"events": [1],}',
        b'{"events": [1]} tail',
        b"{'events': [1]}",
        b'\xef\xbb\xbf{"events": [1]}',
        '{"events": [1]}'.encode("utf-16"),
        b'{"events": ["\xff"]}',
        b"[" * 100_000,
        b'{"events": ' * 100_000,
        b'{"events": [{"meta": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
    ],
)
def test_what_cannot_be_read_is_refused_whole(client: FlaskClient, body: bytes) -> None:
    assert_problem(send(client, body), 400)


def test_a_lone_surrogate_in_a_members_name_cannot_be_read(client: FlaskClient) -> None:
    # The refusal quotes the name, and no answer can hold a lone surrogate.
    assert_problem(send(client, rb'{"events": [1], "\ud800": 1}'), 400)


@pytest.mark.parametrize("broken", [b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"])
def test_meta_that_is_not_utf8_cannot_be_read(
    client: FlaskClient, tenant: str, nothing_written: None, broken: bytes
) -> None:
    body = raw_batch(tenant, '"meta": {"a": "?"}').encode()
    assert_problem(send(client, body.replace(b"?", broken)), 400)


def test_a_thousand_events_are_taken_and_not_one_more(
    client: FlaskClient, session: Session, tenant: str
) -> None:
    batch = [event(tenant, idempotencyKey=f"k{i}") for i in range(1001)]
    assert_problem(ingest(client, batch), 413, pointer="/events")
    assert event_count(session, tenant) == 0
    answer = ingest(client, batch[:1000]).get_json()
    assert answer["accepted"] == 1000
    assert [r["index"] for r in answer["results"]] == list(range(1000))
    bad = [event(tenant, idempotencyKey=f"k{i}", quantity=-1) for i in range(1000)]
    assert ingest(client, bad).get_json()["rejected"] == 1000


def test_only_post_is_served(client: FlaskClient) -> None:
    refused = client.get(INGEST)
    assert_problem(refused, 405)
    assert refused.headers["Allow"] == "OPTIONS, POST"
