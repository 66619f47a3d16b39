"""`python -m sandbox` as a user meets it: what it says when it cannot start."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.errors import SandboxError
from sandbox.settings import Settings
from tests.sandbox.conftest import PYTHONPATH


def run(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    given = {"PYTHONPATH": PYTHONPATH, **environment}
    inherited = {name: value for name, value in os.environ.items() if name != "PORT"}
    return subprocess.run(
        [sys.executable, "-m", "sandbox"],
        cwd=folder,
        env={**inherited, **given},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_taken_port_is_one_sentence(home: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run(home.parent, STRIPEMETER_HOME=str(home), PORT=str(port))
    assert done.returncode == 1
    assert done.stderr == (
        f"Port {port} is already in use by another program; "
        f"stop it or run `PORT={port + 1} make dev`.\n"
    )
    assert sorted(path.name for path in home.iterdir()) == ["run"]  # nothing was started


@pytest.mark.parametrize("port", ["0", "65536", "-1", "3_000", "3000.0", "http", "³"])
def test_a_wrong_port_is_one_sentence(port: str) -> None:
    with pytest.raises(SandboxError, match="PORT must be a whole number from 1 to 65535, not"):
        Settings.read({"PORT": port})


def test_a_file_of_settings_is_read_and_the_environment_wins(home: Path) -> None:
    folder = home.parent
    (folder / ".env").write_text("PORT=from-the-file\n")
    assert "not 'from-the-file'" in run(folder).stderr
    assert "not 'from-outside'" in run(folder, PORT="from-outside").stderr


def test_a_home_that_cannot_be_made_is_one_sentence(home: Path) -> None:
    (home.parent / "file").touch()
    done = run(home.parent, STRIPEMETER_HOME=str(home.parent / "file" / "home"))
    assert done.returncode == 1
    assert done.stderr.startswith("StripeMeter cannot run: ")
    assert done.stderr.count("\n") == 1


def test_settings_have_defaults_and_either_server_can_be_replaced_alone() -> None:
    plain = Settings.read({"DATABASE_URL": ""})
    assert (plain.port, plain.web_concurrency, plain.home.name) == (3000, "2", ".local")
    assert (plain.database_url, plain.redis_url) == (None, None)

    mixed = Settings.read({"REDIS_URL": "redis://cache/1"})
    assert (mixed.database_url, mixed.redis_url) == (None, "redis://cache/1")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_a_database_url_names_the_driver(scheme: str) -> None:
    settings = Settings.read({"DATABASE_URL": f"{scheme}://user:pw@host/db"})
    assert settings.database_url == "postgresql+psycopg://user:pw@host/db"
