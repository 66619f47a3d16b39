"""The operator's command line, on a real database; a refusal is one sentence."""

import re
import uuid
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient
from sqlalchemy import create_engine, text

from tests.webapp.support import bearer
from webapp import cli
from webapp.cli import stripemeter


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch, database: str, redis_url: str, tmp_path_factory
) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("REDIS_URL", redis_url)
    # `main` reads `.env` from where it is called.
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(stripemeter, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def refusal(environment: None, monkeypatch: pytest.MonkeyPatch, capsys):
    """Run `main` where it must refuse; the sentence it says."""

    def refused(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["stripemeter", *arguments])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        out, err = capsys.readouterr()
        assert exit_.value.code == 1
        assert out == ""
        assert "Traceback" not in err
        return err.strip()

    return refused


@pytest.mark.usefixtures("environment")
def test_a_tenant_is_made_and_listed() -> None:
    tenant_id = f"Zoë & Söhne {uuid.uuid4()}"
    assert "live" in run("tenants", "create", tenant_id, "--name", "Zoë").output
    assert f"{tenant_id}\tlive\tZoë\n" in run("tenants", "list").output
    test_id = f"t-{uuid.uuid4()}"
    run("tenants", "create", test_id, "--mode", "test")
    assert f"{test_id}\ttest\t\n" in run("tenants", "list").output


@pytest.mark.usefixtures("environment")
def test_keys_are_made_listed_rotated_and_revoked(shut: FlaskClient, tenant: str) -> None:
    def works(secret: str) -> bool:
        return shut.get("/v1/events", headers=bearer(secret)).status_code == 200

    made = run("keys", "create", "--tenant", tenant, "--name", "ci").output
    secret = made.splitlines()[-1]
    key_id = secret.split("_")[2]
    assert "events:read,events:write,usage:read" in made
    assert works(secret)
    listed = run("keys", "list", "--tenant", tenant).output
    assert f"{key_id}\tlive\tci\t" in listed
    assert secret.split("_")[-1] not in listed
    rotate = ("keys", "rotate", key_id, "--tenant", tenant)
    replacement = run(*rotate, "--grace-seconds", "600").output.splitlines()[-1]
    assert works(secret)
    assert works(replacement)
    assert "ends " in run("keys", "list", "--tenant", tenant).output
    for old in (key_id, replacement.split("_")[2]):
        assert run("keys", "revoke", old, "--tenant", tenant).output == f"Revoked {old}.\n"
    assert not works(secret)
    assert not works(replacement)


@pytest.mark.usefixtures("environment")
def test_a_printed_link_opens_the_console(shut: FlaskClient, tenant: str) -> None:
    link = ("console", "link", "--tenant", tenant, "--role", "finance")
    printed = run(*link, "--base-url", "https://meter.example/").output.strip()
    token = re.fullmatch(r"https://meter\.example/console/enter\?token=([\w-]{43})", printed)
    assert token
    assert shut.post("/console/enter", data={"token": token.group(1)}).status_code == 303
    assert run(*link).output.startswith("http://localhost:3000/console/enter?token=")


def test_a_refusal_is_one_sentence(refusal, tenant: str) -> None:
    assert refusal("tenants", "create", tenant) == f"tenant '{tenant}' exists already"
    for arguments in (
        ("tenants", "create", ""),
        ("tenants", "create", "x" * 129),
        ("tenants", "create", "a\nb"),
        ("keys", "create", "--tenant", "nobody", "--name", "n"),
        ("keys", "create", "--tenant", tenant, "--name", "n", "--scope", "events"),
        ("keys", "rotate", "0000", "--tenant", tenant),
        ("keys", "revoke", "0000", "--tenant", tenant),
        ("console", "link", "--tenant", tenant, "--role", "king"),
        ("console", "link", "--tenant", "nobody", "--role", "operator"),
    ):
        assert "\n" not in refusal(*arguments), arguments


def test_a_key_of_another_tenant_cannot_be_ended(refusal, key: str, stranger: str) -> None:
    assert "no live key" in refusal("keys", "revoke", key.split("_")[2], "--tenant", stranger)


def test_what_is_missing_is_named_at_once(refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("REDIS_URL", "localhost")
    said = refusal("tenants", "list")
    assert "DATABASE_URL is missing" in said
    assert "REDIS_URL must begin with" in said


def test_a_database_that_is_away_is_one_sentence(refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:secret@127.0.0.1:1/x")
    said = refusal("tenants", "list")
    assert said.startswith("The database cannot be ")
    assert "secret" not in said


@pytest.fixture
def empty_database(database: str) -> Iterator[str]:
    name = f"empty_{uuid.uuid4().hex[:12]}"
    admin = create_engine(database, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield admin.url.set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


def test_a_database_without_a_schema_is_one_sentence(
    refusal, monkeypatch: pytest.MonkeyPatch, empty_database: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database)
    assert "stripemeter migrate" in refusal("tenants", "list")
