"""Signed statements over HTTP and on the command line, and `stripemeter verify` on the file."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from metering.errors import InvalidInputError
from metering.proof import statement
from tests.metering.proof.statements import check
from tests.support import entry, fold_all, put
from tests.webapp.support import AppMaker, assert_problem, connections_in_use
from webapp.cli import stripemeter

STATEMENT, KEY = "/v1/usage/statement", "/v1/usage/statement/key"
NOVEMBER = "2026-11-01T00:00:00Z"


@pytest.fixture
def used(session: Session, tenant: str) -> str:
    """A tenant with ten events of a hundred in November."""
    put(session, tenant, [
        entry(f"k{i}", 100, f"2026-11-10T12:{i:02d}:00Z", resource="=r") for i in range(10)
    ])  # fmt: skip
    fold_all(session, tenant)
    return tenant


def fetch(client: FlaskClient, tenant: str, form_name: str = "ndjson") -> bytes:
    answer = client.get(
        STATEMENT,
        query_string={
            "tenantId": tenant, "customerRef": "cus_1", "periodStart": NOVEMBER,
            "format": form_name,
        },
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    kind = {"ndjson": "application/x-ndjson", "csv": "text/csv"}[form_name]
    assert answer.mimetype == kind
    name = f'attachment; filename="statement-2026-11-01.{form_name}"'
    assert answer.headers["Content-Disposition"] == name
    return answer.data


def verify(path: Path, *more: str) -> Result:
    return CliRunner().invoke(stripemeter, ["verify", str(path), *more], catch_exceptions=False)


@pytest.mark.parametrize("form_name", ["ndjson", "csv"])
def test_a_statement_is_fetched_and_verified_offline(
    client: FlaskClient,
    used: str,
    form_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, key = tmp_path / "statement", tmp_path / "key.json"
    path.write_bytes(fetch(client, used, form_name))
    told = client.get(KEY)
    key.write_bytes(told.data)
    for name in ("DATABASE_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    good = verify(path)
    assert good.exit_code == 0, good.output
    assert f"cus_1 of {used}, {NOVEMBER} to 2026-12-01T00:00:00Z" in good.output
    assert "10 events" in good.output
    assert "  api_calls\t1000 (sum)\n" in good.output
    assert told.get_json()["keyId"] in good.output
    assert "Compare it with the one at /v1/usage/statement/key" in good.output
    for pinned in (str(key), told.get_json()["publicKey"], told.get_json()["keyId"]):
        assert "by the key that was expected" in verify(path, "--key", pinned).output
    foreign = verify(path, "--key", "0" * 32)
    assert foreign.exit_code == 1
    assert "signed by another key" in foreign.output
    path.write_bytes(path.read_bytes().replace(b"100", b"110", 1))
    bad = verify(path)
    assert bad.exit_code == 1
    at = 2 if form_name == "ndjson" else 3
    assert f"line {at} was altered" in bad.output
    assert "the total of api_calls is 1000 but its lines add up to 1010" in bad.output
    with pytest.raises(InvalidInputError, match="--key"):
        verify(path, "--key", "nonsense")


def test_the_current_period_is_meant_where_none_is_named(
    client: FlaskClient, session: Session, tenant: str
) -> None:
    asked = {"tenantId": tenant, "customerRef": "cus_1"}
    answer = client.get(STATEMENT, query_string=asked)
    [head, signature] = answer.data.splitlines()
    assert json.loads(head)["type"] == "statement"
    assert json.loads(signature)["lines"] == 1
    assert check([answer.data]).is_good


def test_what_is_no_period_or_no_form_is_refused(client: FlaskClient, used: str) -> None:
    asked = {"tenantId": used, "customerRef": "cus_1"}
    wrong = client.get(STATEMENT, query_string=asked | {"periodStart": "2026-11-02T00:00:00Z"})
    said = assert_problem(wrong, 422, pointer="/periodStart")
    assert said.startswith("periodStart is not the start")
    assert NOVEMBER in said
    wrong = client.get(STATEMENT, query_string=asked | {"format": "pdf"})
    assert_problem(wrong, 422, pointer="/format")
    assert_problem(client.get(STATEMENT, query_string={"tenantId": used}), 422)


def test_without_a_secret_there_are_no_statements(make_app: AppMaker, tenant: str) -> None:
    client = make_app(statement_signing_key=None).test_client()
    asked = {"tenantId": tenant, "customerRef": "cus_1"}
    for answer in (client.get(STATEMENT, query_string=asked), client.get(KEY)):
        assert "STATEMENT_SIGNING_KEY" in assert_problem(answer, 409)


def test_what_breaks_a_statement_off_is_its_last_line(
    make_app: AppMaker, session: Session, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It bears no signature, and no connection is left open; nor by who hangs up."""
    app = make_app()
    client = app.test_client()
    monkeypatch.setattr(statement, "PAGE", 3)
    asked = {"tenantId": used, "customerRef": "cus_1", "periodStart": NOVEMBER}
    hung_up = client.get(STATEMENT, query_string=asked, buffered=False)
    next(iter(hung_up.response))
    hung_up.close()
    assert connections_in_use(app) == 0
    monkeypatch.setattr(statement, "_total", _contradicting)
    answer = client.get(STATEMENT, query_string=asked)
    assert json.loads(answer.data.splitlines()[-1]) == {"type": "error", "note": "ask again"}
    assert not check([answer.data]).is_good
    assert connections_in_use(app) == 0


def _contradicting(*_: object) -> None:
    raise statement.ConflictError("ask again")


def test_an_operator_writes_one_to_a_file(
    database: str, used: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: FlaskClient
) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("STATEMENT_SIGNING_KEY", "00" * 32)
    path = tmp_path / "statement.csv"
    arguments = [
        "statement", "--tenant", used, "--customer", "cus_1", "--period-start", NOVEMBER,
        "--format", "csv", "--out", str(path),
    ]  # fmt: skip
    made = CliRunner().invoke(stripemeter, arguments, catch_exceptions=False)
    assert made.exit_code == 0, made.output
    same_key = client.get(KEY).get_json()["keyId"]
    assert verify(path, "--key", same_key).exit_code == 0
