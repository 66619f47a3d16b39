"""Connections that break in the middle of an upload, at the server that production runs."""

import socket
from typing import Any

import pytest

from tests.backfills import csv_of
from tests.scenarios.stack import Stack, eventually

URL = "/v1/events/backfill"
BODY = csv_of(60_000)
PART = 1024 * 1024


def lists(stack: Stack, tenant: str) -> list[dict[str, Any]]:
    return list(stack.request("GET", f"{URL}?tenantId={tenant}")[1]["backfills"])


@pytest.mark.parametrize("form", [f"Content-Length: {len(BODY)}", "Transfer-Encoding: chunked"])
def test_what_broke_off_is_not_begun_and_goes_on_at_its_byte(
    stack: Stack, acme: str, form: str
) -> None:
    sent = BODY[: 2 * PART]
    head = (
        f"POST {URL}?tenantId={acme}&reason=r HTTP/1.1\r\nHost: localhost:{stack.port}\r\n"
        f"Content-Type: text/csv\r\n{form}\r\n\r\n"
    )
    if "chunked" in form:
        sent = b"%x\r\n%b\r\n" % (len(sent), sent)  # and no last chunk
    with socket.create_connection(("127.0.0.1", stack.port)) as connection:
        connection.sendall(head.encode() + sent)
        eventually(lambda: lists(stack, acme), "the upload has begun")
    found = eventually(
        lambda: [each for each in lists(stack, acme) if each["state"] == "incomplete"],
        "it is known to have broken off",
    )[0]
    assert found["totalBytes"] == 2 * PART
    assert f"offset={2 * PART}" in found["error"]
    stack.start_worker("bulk")
    where = f"{URL}/{found['id']}?tenantId={acme}"
    status, answer = stack.put_file(f"{where}&offset={2 * PART}", BODY[2 * PART :])
    assert status == 202, answer
    done = eventually(
        lambda: (read := stack.request("GET", where)[1])["state"] == "done" and read, "it is read"
    )
    assert (done["accepted"], done["failed"], done["totalBytes"]) == (60_000, 0, len(BODY))


def test_the_web_is_killed_in_the_middle_of_an_upload(stack: Stack, acme: str) -> None:
    head = (
        f"POST {URL}?tenantId={acme}&reason=r HTTP/1.1\r\nHost: localhost:{stack.port}\r\n"
        f"Content-Type: text/csv\r\nContent-Length: {len(BODY)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", stack.port)) as connection:
        connection.sendall(head.encode() + BODY[: PART + 9])
        eventually(
            lambda: [each["totalBytes"] for each in lists(stack, acme)] == [PART], "a part is kept"
        )
        stack.kill("web")
    stack.start_web()
    (found,) = lists(stack, acme)
    assert (found["state"], found["totalBytes"]) == ("receiving", PART)
    stack.start_worker("bulk")
    where = f"{URL}/{found['id']}?tenantId={acme}"
    assert stack.put_file(f"{where}&offset={PART}", BODY[PART:])[0] == 202
    done = eventually(
        lambda: (read := stack.request("GET", where)[1])["state"] == "done" and read, "it is read"
    )
    assert (done["accepted"], done["failed"]) == (60_000, 0)
