"""The product as it runs: real processes on real servers, to be killed and started again."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import create_engine, text

from sandbox.servers import Postgres, Valkey
from tests.support import migrate

REPOSITORY = Path(__file__).resolve().parents[2]
WAIT_SECONDS = 60.0


def eventually(check: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS) -> Any:
    """Wait until `check` returns something true and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        result = check()
        if result:
            return result
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


class Stack:
    """Postgres, Valkey, web, worker and clock, each of which a test may kill."""

    def __init__(self, home: Path) -> None:
        self.home = home
        # Durable: what these tests ask is what survives.
        self.postgres = Postgres(home / "postgres", durable=True)
        self.valkey = Valkey(home / "valkey")
        self.port = free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        self.postgres.start()
        self.valkey.start()
        migrate(self.postgres.url)
        self.engine = create_engine(self.postgres.url, pool_pre_ping=True)
        self.start_web()

    def stop(self) -> None:
        self._resume_valkey()
        for name in list(self.processes):
            self.end(name)
        with contextlib.suppress(AttributeError):
            self.engine.dispose()
        self.valkey.stop()
        self.postgres.stop()

    # ---- processes ----

    def start_web(self) -> None:
        self._spawn(
            "web", "-m", "gunicorn", "-c", "python:webapp.gunicorn_conf", "webapp:create_app()"
        )
        eventually(self._answers, "the web answers")

    def start_worker(self, kind: str = "counters") -> None:
        self._spawn("worker", "-m", "jobs.worker", kind)

    def start_clock(self) -> None:
        self._spawn("clock", "-m", "jobs.schedule")

    def kill(self, name: str) -> None:
        """SIGKILL the process and everything it started: nothing gets to clean up."""
        process = self.processes.pop(name)
        # RQ's forks lead groups of their own, which the group's signal does not reach.
        forks = psutil.Process(process.pid).children(recursive=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for fork in forks:
            with contextlib.suppress(psutil.NoSuchProcess):
                fork.kill()
        process.wait()
        psutil.wait_procs(forks, timeout=10)

    def end(self, name: str) -> None:
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _spawn(self, name: str, *arguments: str) -> None:
        metrics = self.home / "metrics"
        metrics.mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.valkey.url,
            "PORT": str(self.port),
            "BIND_HOST": "127.0.0.1",
            "WEB_CONCURRENCY": "2",
            "STRIPEMETER_SANDBOX": "1",
            "PROMETHEUS_MULTIPROC_DIR": str(metrics),
        }
        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=REPOSITORY,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    # ---- the network between us and Redis ----

    @contextlib.contextmanager
    def black_holed_redis(self) -> Iterator[None]:
        """Redis takes connections and never answers."""
        os.kill(self.valkey.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            self._resume_valkey()

    def _resume_valkey(self) -> None:
        if self.valkey.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.valkey.pid, signal.SIGCONT)

    # ---- what a client does ----

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request on a connection of its own: (status, decoded JSON)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            payload = json.dumps(body) if body is not None else None
            connection.request(method, path, payload, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()

    def put_file(self, path: str, body: bytes) -> tuple[int, Any]:
        """Send a CSV: (status, decoded JSON)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("PUT", path, body, {"Content-Type": "text/csv"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def ingest(self, events: list[dict[str, Any]]) -> dict[str, Any]:
        """Ingest as a good client does: the same bytes again until they are answered with 200."""

        def send() -> dict[str, Any] | None:
            try:
                status, answer = self.request("POST", "/v1/events/ingest", {"events": events})
            except (OSError, http.client.HTTPException):
                return None
            assert status in (200, 503), answer
            return dict(answer) if status == 200 else None

        return dict(eventually(send, "the batch is taken"))

    def usage(self, tenant: str, customer: str) -> dict[str, Any]:
        """The customer's current period by metric."""
        path = f"/v1/usage/current?tenantId={tenant}&customerRef={customer}"
        status, answer = self.request("GET", path)
        assert status == 200, answer
        return {metric["name"]: metric for metric in answer["metrics"]}

    def scalar(self, sql: str, **parameters: object) -> Any:
        with self.engine.connect() as connection:
            return connection.execute(text(sql), parameters).scalar()

    def balance(self, tenant: str) -> tuple[int, int]:
        """(events not accounted for, events unfolded)."""
        unfolded = "SELECT count(*) FROM unfolded WHERE tenant_id = :t"
        ledger = "SELECT count(*) FROM events WHERE tenant_id = :t"
        counted = "SELECT coalesce(sum(event_count), 0) FROM counters WHERE tenant_id = :t"
        with self.engine.connect() as connection:
            row = connection.execute(
                text(f"SELECT ({ledger}) - ({counted}) - ({unfolded}), ({unfolded})"), {"t": tenant}
            ).one()
        return int(row[0]), int(row[1])

    def wait_until_folded(self, tenant: str, seconds: float = WAIT_SECONDS) -> None:
        def folded() -> bool:
            missing, unfolded = self.balance(tenant)
            assert missing == 0, "events are neither counted nor waiting"
            return unfolded == 0

        eventually(folded, "everything is folded", seconds)

    def _answers(self) -> bool:
        try:
            return self.request("GET", "/health/live")[0] == 200
        except OSError:
            return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
