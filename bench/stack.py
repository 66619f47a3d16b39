"""The product as it runs: servers, web and worker in processes of their own, on loopback only.

Embedded servers with durable settings, unless DATABASE_URL or REDIS_URL name others; there a
scratch database is made and dropped, and an empty Redis database is borrowed.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit, urlunsplit

import psutil
import redis
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine

from metering.database import make_engine
from sandbox import processes
from sandbox.programs import GUNICORN
from sandbox.servers import Postgres, Valkey
from webapp.config import database_url

WEB_PROCESSES = 2
NOTHING: Mapping[str, str] = MappingProxyType({})
# What the surroundings set about the product would make two runs differ.
_OWN_SETTINGS = ("STRIPE", "WEB_", "PORT", "BIND_", "METRICS_", "TRUSTED_", "LOG_", "PROMETHEUS_")


@dataclass(frozen=True)
class Cpu:
    """Processor time so far, in seconds, by who spent it."""

    web: float
    worker: float
    postgres: float
    stripe: float = 0.0

    @property
    def total(self) -> float:
        return self.web + self.worker + self.postgres + self.stripe

    def since(self, earlier: "Cpu") -> "Cpu":
        return Cpu(
            self.web - earlier.web,
            self.worker - earlier.worker,
            self.postgres - earlier.postgres,
            self.stripe - earlier.stripe,
        )


class Stack:
    """A running product. `engine` is the harness's own way to the same database."""

    def __init__(self, folder: Path, database: str, redis_url: str, postgres: int | None) -> None:
        self.folder = folder
        self.port = free_port()
        self.engine: Engine = make_engine(database, application_name="stripemeter bench")
        self.environment = _environment(folder, database, redis_url, self.port)
        self.web: psutil.Process | None = None
        self._worker: psutil.Process | None = None
        self._stripe: psutil.Process | None = None
        self._postgres = psutil.Process(postgres) if postgres else None

    def web_processes(self) -> list[psutil.Process]:
        """The processes that answer requests."""
        return self.web.children() if self.web else []

    @property
    def owns_postgres(self) -> bool:
        return self._postgres is not None

    def cpu(self) -> Cpu:
        return Cpu(*map(_spent, (self.web, self._worker, self._postgres, self._stripe)))

    def migrate(self) -> None:
        subprocess.run(
            [sys.executable, "-m", "webapp", "migrate"],
            env=self.environment,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "migrate.log").open("wb"),
        )

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Run the web, with no worker."""
        with self.program("web", GUNICORN) as self.web:
            self.wait_for(self.port, "web")
            yield

    def folding(self) -> AbstractContextManager[psutil.Process]:
        """Run a counters worker besides."""
        return self.working(["counters"])

    @contextmanager
    def working(
        self, kinds: Sequence[str], told: Mapping[str, str] = NOTHING
    ) -> Iterator[psutil.Process]:
        """Run workers of these kinds besides, and wait until they take jobs. told: variables."""
        with self.program("worker", ["-m", "jobs.worker", *kinds], told) as self._worker:
            client = redis.Redis.from_url(self.environment["REDIS_URL"])
            while client.scard("rq:workers") < len(kinds):
                time.sleep(0.05)
            client.close()
            yield self._worker
        self._worker = None

    @contextmanager
    def standing_in(self, arguments: Sequence[str]) -> Iterator[None]:
        """Run the stand-in for Stripe besides."""
        with self.program("stripe", ["-m", "sandbox.stripe", *arguments]) as self._stripe:
            yield
        self._stripe = None

    @contextmanager
    def bulk(self) -> Iterator[None]:
        """Run a bulk worker besides."""
        with self.program("bulk", ["-m", "jobs.worker", "bulk"]):
            yield

    @contextmanager
    def program(
        self, name: str, arguments: Sequence[str], told: Mapping[str, str] = NOTHING
    ) -> Iterator[psutil.Process]:
        """Run a program of ours. told: variables beside those that all have."""
        child = processes.spawn(
            [sys.executable, *arguments],
            self.folder / f"{name}.log",
            {**self.environment, **told},
        )
        leader = psutil.Process(child.pid)
        try:
            yield leader
        finally:
            processes.end([leader])
            child.wait()

    def wait_for(self, port: int, name: str) -> None:
        """Wait until the web of this port answers. name: of its log."""
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5)
            except (urllib.error.URLError, ConnectionError):
                if time.monotonic() > deadline:
                    log = processes.tail(self.folder / f"{name}.log")
                    raise RuntimeError(f"the web does not answer:\n{log}") from None
                time.sleep(0.1)
            else:
                return


@contextmanager
def running() -> Iterator[Stack]:
    """A migrated stack with its web running; everything is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="stripemeter-bench-"))
    folder.chmod(0o755)  # the account that stands in for root enters it
    with ExitStack() as exits:
        exits.callback(shutil.rmtree, folder, ignore_errors=True)
        database, postgres = exits.enter_context(_database(folder))
        cache = exits.enter_context(_redis(folder))
        stack = Stack(folder, database, cache, postgres)
        exits.callback(stack.engine.dispose)
        stack.migrate()
        exits.enter_context(stack.serving())
        yield stack


@contextmanager
def _database(folder: Path) -> Iterator[tuple[str, int | None]]:
    given = os.environ.get("DATABASE_URL")
    if not given:
        server = Postgres(folder / "pg", durable=True)
        with server as url:
            yield url, server.pid
        return
    name = f"stripemeter_bench_{uuid.uuid4().hex[:12]}"
    admin = create_engine(database_url(given), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield admin.url.set(database=name).render_as_string(hide_password=False), None
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    given = os.environ.get("REDIS_URL")
    if not given:
        with Valkey(folder / "vk") as url:
            yield url
        return
    for number in range(15, 0, -1):
        client = redis.Redis.from_url(given, db=number)
        if client.dbsize() == 0:
            yield urlunsplit(urlsplit(given)._replace(path=f"/{number}"))
            client.flushdb()
            client.close()
            return
    raise RuntimeError("every database of the Redis at REDIS_URL holds something; empty one")


def _environment(folder: Path, database: str, redis_url: str, port: int) -> dict[str, str]:
    metrics = folder / "metrics"
    metrics.mkdir()
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(_OWN_SETTINGS)}
    return inherited | {
        "DATABASE_URL": database,
        "REDIS_URL": redis_url,
        "STRIPEMETER_SANDBOX": "1",
        "BIND_HOST": "127.0.0.1",
        "PORT": str(port),
        "WEB_CONCURRENCY": str(WEB_PROCESSES),
        "PROMETHEUS_MULTIPROC_DIR": str(metrics),
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _spent(leader: psutil.Process | None) -> float:
    """Seconds of a process, its living children and the dead ones it has waited for."""
    if leader is None:
        return 0.0
    total = 0.0
    for process in [leader, *leader.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
        if process.pid == leader.pid:
            total += times.children_user + times.children_system
    return total
