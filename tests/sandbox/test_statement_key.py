"""The sandbox signs with a secret of its home's, unless the user has one."""

from pathlib import Path

from sandbox import statement_key
from sandbox.settings import Settings
from webapp import config


def settings(home: Path, **environment: str) -> Settings:
    return Settings.read({"STRIPEMETER_HOME": str(home), **environment})


def test_the_secret_is_made_once_and_for_the_owner_only(tmp_path: Path) -> None:
    made = statement_key.environment(settings(tmp_path))
    assert statement_key.environment(settings(tmp_path)) == made
    assert statement_key.environment(settings(tmp_path / "other")) != made
    [kept] = tmp_path.glob("statement-key")
    assert kept.stat().st_mode & 0o777 == 0o600
    told = {"DATABASE_URL": "postgres://h/n", **made}
    secret = config.load(told, needs_redis=False).statement_signing_key
    assert secret is not None
    assert len(secret) == 32


def test_the_users_own_comes_first(tmp_path: Path) -> None:
    own = {statement_key.NAME: "mine"}
    assert statement_key.environment(settings(tmp_path, **own)) == own
    assert not (tmp_path / "statement-key").exists()
