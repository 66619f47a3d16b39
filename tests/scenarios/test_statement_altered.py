"""A customer's accountant is handed a statement in which somebody has altered one quantity."""

from datetime import datetime
from pathlib import Path

from click.testing import CliRunner
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from tests.support import entry, fold_all, put
from webapp.cli import stripemeter

NOVEMBER = "2026-11-01T00:00:00Z"


def test_the_altered_line_is_named_and_the_erased_meta_changes_nothing(
    client: FlaskClient, session: Session, tenant: str, tmp_path: Path, monkeypatch, database: str
) -> None:
    put(session, tenant, [
        entry(f"order-{i:02d}", 100, datetime.fromisoformat(f"2026-11-{i + 1:02d}T12:00:00Z"),
              meta='{"mail": "a@example.com"}')
        for i in range(10)
    ])  # fmt: skip
    fold_all(session, tenant)
    asked = {"tenantId": tenant, "customerRef": "cus_1", "periodStart": NOVEMBER}
    first = client.get("/v1/usage/statement", query_string=asked).data
    assert b"example.com" not in first
    monkeypatch.setenv("DATABASE_URL", database)
    erase = ["erase-meta", "--tenant", tenant, "--customer", "cus_1", "--reason", "asked", "--yes"]
    assert "of 10 events" in CliRunner().invoke(stripemeter, erase).output
    second = client.get("/v1/usage/statement", query_string=asked).data
    # But for when it was written, and the signature over that, it says the same.
    assert first.splitlines()[1:-1] == second.splitlines()[1:-1]
    path = tmp_path / "statement.ndjson"
    lines = second.splitlines(keepends=True)
    lines[6] = lines[6].replace(b'"quantity":"100"', b'"quantity":"90"')
    path.write_bytes(b"".join(lines))
    checked = CliRunner().invoke(stripemeter, ["verify", str(path)])
    assert checked.exit_code == 1
    assert "line 7 was altered" in checked.output
    assert "the total of api_calls is 1000 but its lines add up to 990" in checked.output
