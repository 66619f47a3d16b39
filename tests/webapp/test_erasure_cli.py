"""`stripemeter erase-meta`: it asks, says how many, and writes down what it did."""

import pytest
from click.testing import CliRunner, Result
from sqlalchemy.orm import Session

from metering.errors import NotFoundError
from tests.support import entry, put, scalar
from webapp.cli import stripemeter


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, database: str, redis_url: str):
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("REDIS_URL", redis_url)

    def invoke(*arguments: str, answer: str = "") -> Result:
        return CliRunner().invoke(stripemeter, arguments, input=answer, catch_exceptions=False)

    return invoke


def _with_meta(session: Session, tenant: str) -> int:
    held = "SELECT count(*) FROM events WHERE tenant_id = :t AND meta IS NOT NULL"
    return scalar(session, held, t=tenant)


def test_meta_is_erased_when_it_is_confirmed(run, session: Session, tenant: str) -> None:
    put(session, tenant, [entry(f"k{i}", meta='{"mail": "a@example.com"}') for i in range(3)])
    erase = ("erase-meta", "--tenant", tenant, "--reason", "asked by the person")
    whole = (*erase, "--customer", "cus_1")
    refused = run(*whole, answer="n\n")
    assert refused.exit_code == 1
    assert "The meta of 3 events will be erased and cannot be brought back." in refused.output
    assert "no total changes" in refused.output
    assert _with_meta(session, tenant) == 3
    one = run(*erase, "--event", "k1", "--yes")
    assert one.output.startswith("Erased the meta of 1 event (era_")
    assert run(*whole, answer="y\n").output.endswith("No total changed.\n")
    assert _with_meta(session, tenant) == 0
    assert run(*whole, "--yes").output == "There is no meta to erase.\n"
    listed = run("erasures", "--tenant", tenant).output.splitlines()
    assert [line.split("\t")[2:] for line in listed] == [
        ["customer cus_1", "2 events", "operator", "asked by the person"],
        ["event k1", "1 event", "operator", "asked by the person"],
    ]


def test_a_mistyped_event_is_said(run, session: Session, tenant: str) -> None:
    put(session, tenant, [entry("bare")])
    erase = ("erase-meta", "--tenant", tenant, "--reason", "a password", "--yes")
    assert run(*erase, "--event", "bare").output == "There is no meta to erase.\n"
    with pytest.raises(NotFoundError, match="there is no event 'baer'"):
        run(*erase, "--event", "baer")
