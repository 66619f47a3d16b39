"""`stripemeter backfill`: a file, a pipe or an object of S3-compatible storage, to the end."""

import csv
import gzip
import re
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy.orm import Session

from metering.errors import InvalidInputError
from metering.ledger import backfill, uploads
from tests.backfills import HEADER, counts, csv_of, found, line
from tests.support import scalar
from webapp.cli import stripemeter

Import = Callable[..., Result]


@pytest.fixture
def imported(tenant: str, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Import:
    """Run the command for the tenant, in a folder of its own."""
    monkeypatch.setenv("DATABASE_URL", database)
    for name in ("REDIS_URL", "S3_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def run(file: str, *options: str, stdin: bytes | None = None) -> Result:
        arguments = ["backfill", file, "--tenant", tenant, "--reason", "a test", *options]
        return CliRunner().invoke(stripemeter, arguments, input=stdin, catch_exceptions=False)

    return run


def of(session: Session, tenant: str, result: Result) -> tuple[int, int, int]:
    """What has become of the import that the command names."""
    named = re.search(r"The import is (\S+)\.", result.output)
    assert named, result.output
    return counts(found(session, tenant, named[1]))


def test_a_file_is_imported_and_its_errors_written(
    session: Session, tenant: str, imported: Import, tmp_path: Path
) -> None:
    (tmp_path / "usage.csv").write_bytes(csv_of(50) + line(60, "many").encode())
    result = imported("usage.csv", "--errors", "errors.csv", "--late", "set_aside")
    assert result.exit_code == 0
    assert "Read 52 lines: 50 accepted, 0 duplicates, 1 failed." in result.output
    assert "The lines that failed are in errors.csv." in result.output
    (error,) = csv.DictReader((tmp_path / "errors.csv").read_text().splitlines())
    assert (error["line"], error["excerpt"][:20]) == ("52", "api_calls,cus_0,many")
    assert of(session, tenant, result) == (50, 0, 1)
    assert of(session, tenant, imported("usage.csv")) == (0, 50, 1)
    actors = "SELECT string_agg(DISTINCT actor || file_name, ',') FROM backfills"
    assert scalar(session, f"{actors} WHERE tenant_id = :t", t=tenant) == "operatorusage.csv"


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_standard_input_and_gzip(
    session: Session, tenant: str, imported: Import, pack: Callable[[bytes], bytes]
) -> None:
    result = imported("-", "--format", "csv", stdin=pack(csv_of(5)))
    assert of(session, tenant, result) == (5, 0, 0)


def test_the_first_errors_are_shown(imported: Import, tmp_path: Path) -> None:
    bad = "".join(line(i, "x") for i in range(9))
    (tmp_path / "usage.csv").write_text(f"{HEADER}\n{bad}")
    output = imported("usage.csv").output
    assert output.count("must be a number") == 5
    assert "and 4 more; --errors FILE" in output


def test_a_file_that_is_none_fails(imported: Import, tmp_path: Path) -> None:
    (tmp_path / "usage.csv").write_bytes(csv_of(5).decode().encode("utf-16"))
    result = imported("usage.csv")
    assert result.exit_code == 1
    assert "iconv" in result.output


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("missing.csv", "No such file"),
        ("usage.xlsx", "--format"),
        ("usage.json", "jq -c"),
        ("s3://bucket.csv", "s3://bucket/key"),
        ("s3://bucket/usage.csv", "AWS_ACCESS_KEY_ID"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(imported: Import, file: str, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        imported(file)


def test_a_stopped_command_is_given_again(
    session: Session,
    tenant: str,
    imported: Import,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uploads, "PART_BYTES", 500)
    (tmp_path / "usage.csv").write_bytes(csv_of(100))
    real, steps = backfill._take, 0

    def stopped(*given: object, **named: object) -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise KeyboardInterrupt
        real(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(backfill, "_take", stopped)
    assert imported("usage.csv").exit_code == 1
    again = of(session, tenant, imported("usage.csv"))
    assert again[0] + again[1] == 100
    assert 0 < again[1] < 100
    assert scalar(session, "SELECT count(*) FROM events WHERE tenant_id = :t", t=tenant) == 100


class _Storage(ThreadingHTTPServer):
    """Answers GET /bucket/key as S3 does, to whoever signs."""

    objects: dict[str, bytes]
    cut_at: int | None = None

    class Handler(BaseHTTPRequestHandler):
        server: "_Storage"

        def do_GET(self) -> None:
            body = self.server.objects.get(self.path)
            signed = "Credential=someone/" in self.headers.get("Authorization", "")
            if body is None or not signed:
                code = "NoSuchKey" if signed else "AccessDenied"
                body = f"<Error><Code>{code}</Code><Message>Not here.</Message></Error>".encode()
                self.send_response(404 if signed else 403)
                self.send_header("Content-Type", "application/xml")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: self.server.cut_at])

        def log_message(self, format: str, *args: object) -> None:
            pass


@pytest.fixture
def storage(imported: Import, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Storage]:
    server = _Storage(("127.0.0.1", 0), _Storage.Handler)
    server.objects = {}
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("S3_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_object_of_s3_is_imported(
    session: Session, tenant: str, imported: Import, storage: _Storage
) -> None:
    storage.objects["/exports/2026/usage.csv.gz"] = gzip.compress(csv_of(20))
    assert of(session, tenant, imported("s3://exports/2026/usage.csv.gz")) == (20, 0, 0)


def test_an_object_that_is_not_there_or_breaks_off(
    session: Session, tenant: str, imported: Import, storage: _Storage
) -> None:
    with pytest.raises(InvalidInputError, match="NoSuchKey"):
        imported("s3://exports/usage.csv")
    storage.objects["/exports/usage.csv"] = csv_of(1000)
    storage.cut_at = 5000
    with pytest.raises(InvalidInputError, match="broke off"):
        imported("s3://exports/usage.csv")
    assert scalar(session, "SELECT state FROM backfills WHERE tenant_id = :t", t=tenant) == (
        "incomplete"
    )
    assert scalar(session, "SELECT count(*) FROM events WHERE tenant_id = :t", t=tenant) == 0


def test_without_the_package_it_is_named(
    imported: Import, storage: _Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "minio", None)
    with pytest.raises(InvalidInputError, match=r"stripemeter-server\[s3\]"):
        imported("s3://exports/usage.csv")
