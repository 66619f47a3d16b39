"""A supervisor of stand-in programs, with real servers, real signals and real deaths."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import psycopg
import pytest

from sandbox import processes
from sandbox.servers import Postgres, Valkey
from tests.sandbox.conftest import PYTHONPATH

STAND_INS = Path(__file__).with_name("stand_ins.py")
# How long to wait for what must come: a busy machine may stand still for many seconds.
PATIENCE_SECONDS = 60.0
# With both addresses given no server is started, where the test is not about servers.
NO_SERVERS = {"DATABASE_URL": "postgres://nowhere/none", "REDIS_URL": "redis://nowhere"}


class Run:
    """One supervisor process; what it prints is in a file, so that it never blocks."""

    def __init__(self, home: Path, port: int, environment: dict[str, str], names: Sequence[str]):
        self.home, self.port = home, port
        self.output = home.parent / f"output-{time.monotonic_ns()}"
        given = {"STRIPEMETER_HOME": str(home), "PORT": str(port), "PYTHONPATH": PYTHONPATH}
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, STAND_INS, *names],
                env={**os.environ, **given, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def text(self) -> str:
        return self.output.read_text()

    def children(self) -> dict[str, int]:
        path = self.home / "run" / "children.json"
        records = json.loads(path.read_text()) if path.exists() else []
        return {record["name"]: record["pid"] for record in records}

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, self.text
            assert self.process.poll() is None, self.text
            time.sleep(0.02)

    def wait_for_text(self, text: str) -> None:
        self.wait_for(lambda: text in self.text)

    def get(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()

    def is_serving(self) -> bool:
        try:
            return b"PORT" in self.get("/environment")
        except OSError:
            return False

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)


Start = Callable[..., Run]


@pytest.fixture
def start(home: Path, port: int) -> Iterator[Start]:
    runs: list[Run] = []

    def begin(migration: str = "good", worker: str = "patient", **environment: str) -> Run:
        runs.append(Run(home, port, environment, [migration, worker]))
        return runs[-1]

    yield begin
    for run in runs:
        if run.process.poll() is None:
            run.end(signal.SIGTERM)


def alive(family: Sequence[psutil.Process]) -> list[psutil.Process]:
    return [process for process in family if processes.is_alive(process)]


def test_everything_comes_up_and_ctrl_c_leaves_nothing(start: Start, home: Path) -> None:
    run = start()
    run.wait_for_text("Ctrl-C stops everything")
    family, children = run.family(), run.children()
    assert set(children) == {"postgres", "valkey", "web", "worker", "clock"}
    assert f"curl -X POST http://localhost:{run.port}/v1/events/ingest -H" in run.text

    seen = json.loads(run.get("/environment"))
    assert seen["DATABASE_URL"] == Postgres(home).url
    assert seen["REDIS_URL"] == Valkey(home).url
    assert seen["STRIPEMETER_SANDBOX"] == "1"
    assert seen["WEB_CONCURRENCY"] == "2"
    assert seen["PROMETHEUS_MULTIPROC_DIR"] == str(home / "run" / "prometheus")

    assert run.end() == 0
    assert alive(family) == []
    assert run.children() == {}
    assert not Postgres(home)._sockets.exists()
    assert not Valkey(home)._sockets.exists()


def test_what_dies_is_started_again_with_its_data(start: Start, home: Path) -> None:
    run = start()
    run.wait_for_text("Ctrl-C stops everything")
    before = run.children()
    for name in ("web", "worker", "valkey", "postgres"):
        os.kill(before[name], signal.SIGKILL)
    for name in ("web", "worker", "valkey", "postgres"):
        run.wait_for_text(f"{name} died (exit code -9) and is started again")
    run.wait_for(lambda: len(set(before.items()) - set(run.children().items())) == 4)

    run.wait_for(run.is_serving)
    with psycopg.connect(Postgres(home).url.replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert run.children()["clock"] == before["clock"]
    assert run.end(signal.SIGTERM) == 0


def test_a_killed_supervisor_is_cleaned_up_after(start: Start) -> None:
    first = start()
    first.wait_for_text("Ctrl-C stops everything")
    orphans = first.family()
    first.end(signal.SIGKILL)
    assert alive(orphans)

    second = start()
    second.wait_for_text("Ctrl-C stops everything")
    assert "Ended what a killed run had left behind: postgres, valkey, web" in second.text
    assert alive(orphans) == []
    family = second.family()
    assert second.end(signal.SIGHUP) == 0
    assert alive(family) == []


def test_a_second_start_says_that_it_runs_and_harms_nothing(start: Start) -> None:
    first = start(**NO_SERVERS)
    first.wait_for_text("Ctrl-C stops everything")

    second = start(**NO_SERVERS)
    assert second.process.wait(PATIENCE_SECONDS) == 0
    assert second.text == (
        f"StripeMeter is already running at http://localhost:{first.port} "
        f"(pid {first.process.pid}); stop it with Ctrl-C in its terminal.\n"
    )
    assert b"PORT" in first.get("/environment")


def test_a_second_ctrl_c_hurries(start: Start) -> None:
    run = start(worker="stubborn", **NO_SERVERS)
    run.wait_for_text("Ctrl-C stops everything")
    run.wait_for(lambda: "deaf" in (run.home / "logs" / "worker.log").read_text())
    family = run.family()
    run.process.send_signal(signal.SIGINT)
    run.wait_for_text("Stopping")
    began = time.monotonic()
    assert run.end() == 0
    assert time.monotonic() - began < processes.GRACE_SECONDS
    assert alive(family) == []


def test_five_deaths_a_minute_are_enough(start: Start) -> None:
    run = start(worker="hopeless", **NO_SERVERS)
    assert run.process.wait(PATIENCE_SECONDS) == 1
    assert "worker has died 5 times within a minute" in run.text
    assert "no way" in run.text.splitlines()[-1]


def test_a_failed_migration_is_shown_and_stops_everything(start: Start) -> None:
    run = start(migration="bad", **NO_SERVERS)
    assert run.process.wait(PATIENCE_SECONDS) == 1
    assert "The migration failed:\ncolumn is missing" in run.text
    assert "Starting web" not in run.text


def test_ctrl_c_in_the_middle_of_the_migration_stops_everything(start: Start, home: Path) -> None:
    run = start(migration="endless")
    run.wait_for(lambda: "migrate" in run.children())
    family = run.family()
    assert run.end() == 0
    assert alive(family) == []
    assert "Starting web" not in run.text
    assert not Postgres(home)._sockets.exists()


def test_a_process_is_remembered_only_with_its_start_time(tmp_path: Path) -> None:
    path = tmp_path / "children.json"
    processes.remember(path, {"us": os.getpid()})
    assert processes.remembered(path)["us"].pid == os.getpid()

    record = json.loads(path.read_text())[0]
    record["create_time"] -= 60  # the id was another process' then
    path.write_text(json.dumps([record]))
    assert processes.remembered(path) == {}
