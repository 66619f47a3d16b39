"""`stripemeter replay`: what differs, in words and money, and where to go on."""

from datetime import UTC, datetime

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text
from sqlalchemy.orm import Session

from metering.catalog import mappings
from metering.database import unit_of_work
from metering.proof import replay
from pricing.price import from_config
from tests.stripe_setup import TIERED
from tests.support import counters, entry, fold_all, put
from tests.webapp.support import stored
from webapp import cli
from webapp.cli import stripemeter

MONTH = ("--since", "2026-11-01T00:00:00Z", "--until", "2026-12-01T00:00:00Z")


@pytest.fixture(autouse=True)
def _environment(
    monkeypatch: pytest.MonkeyPatch, database: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))


def run(tenant: str, *arguments: str) -> Result:
    result = CliRunner().invoke(
        stripemeter, ("replay", "--tenant", tenant, *MONTH, *arguments), catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result


def test_what_differs_is_told_in_money_and_mended_when_it_is_asked_for(
    session: Session, tenant: str
) -> None:
    put(session, tenant, [entry("a", 70), entry("b", 50, "2026-11-09T00:00:00Z")])
    fold_all(session, tenant)
    right = counters(session, tenant)
    with unit_of_work(session):
        since = datetime(2026, 1, 1, tzinfo=UTC)
        made = mappings.create(
            session, tenant, mappings.id_of(None),
            {"metric": "api_calls", "price": from_config(TIERED), "currency": "usd"}, now=since,
        )  # fmt: skip
        made.effective_from = since
        session.execute(
            text("UPDATE segments SET sum_value = 35 WHERE tenant_id = :t"
                 " AND segment_start > '2026-11-09 12:00Z'"), {"t": tenant},
        )  # fmt: skip
        session.execute(
            text("UPDATE counters SET sum_value = 85 WHERE tenant_id = :t"), {"t": tenant}
        )
    before = stored(session, tenant)
    said = run(tenant).output
    line = "cus_1  api_calls  2026-11-01 to 2026-12-01  85 → 120  0.00 → 10.00 USD"
    assert line in said
    assert "2 events of the ledger compared with what is counted; 1 customer would change" in said
    assert stored(session, tenant) == before
    assert line in run(tenant, "--apply").output
    assert counters(session, tenant) == right
    again = run(tenant, "--apply", "--metric", "api_calls", "--customer", "cus_1").output
    assert "every counter of an open period is right." in again


def test_who_interrupts_it_is_told_where_to_go_on(
    session: Session, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(session, tenant, [entry("a", 70), entry("b", 50, "2026-11-29T00:00:00Z")])
    fold_all(session, tenant)
    right = counters(session, tenant)
    with unit_of_work(session):
        session.execute(text("DELETE FROM segments WHERE tenant_id = :t"), {"t": tenant})
    monkeypatch.setattr("webapp.replay_cli.SECONDS", 0.0)
    page, pages = replay.page, 0

    def interrupted(*arguments: object) -> replay.Page:
        nonlocal pages
        pages += 1
        if pages == 4:
            raise KeyboardInterrupt
        return page(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(replay, "page", interrupted)
    said = run(tenant, "--apply").output
    cursor = said.split("--cursor ")[1].strip()
    monkeypatch.setattr(replay, "page", page)
    run(tenant, "--apply", "--cursor", cursor)
    assert counters(session, tenant) == right
    sql = "SELECT count(*) FROM segments WHERE tenant_id = :t"
    assert session.execute(text(sql), {"t": tenant}).scalar_one() == 2


def test_a_refusal_is_one_sentence(
    tenant: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, sentence in (
        (("--tenant", f"{tenant}x"), "no tenant"),
        (("--tenant", tenant, "--metric", "nothing"), "there is no metric"),
        (("--tenant", tenant, "--since", "soon"), "--since must be"),
        (("--tenant", tenant, "--cursor", "x"), "cursor"),
    ):
        monkeypatch.setattr("sys.argv", ["stripemeter", "replay", *arguments])
        with pytest.raises(SystemExit):
            cli.main()
        out, err = capsys.readouterr()
        assert sentence in err
        assert "Traceback" not in err
        assert out == ""
