"""The programs of StripeMeter itself, as processes."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import redis

from sandbox import processes
from sandbox.member import Member


@dataclass(frozen=True)
class Command:
    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


GUNICORN = ["-m", "gunicorn", "-c", "python:webapp.gunicorn_conf", "webapp:create_app()"]
MIGRATION = Command("migrate", [sys.executable, "-m", "webapp", "migrate"])
PROGRAMS = (
    Command("web", [sys.executable, *GUNICORN], {"BIND_HOST": "127.0.0.1"}),
    Command("worker", [sys.executable, "-m", "jobs.worker"]),
    Command("clock", [sys.executable, "-m", "jobs.schedule"]),
)


def counters_are_served(redis_url: str) -> bool:
    """True once a worker waits for fold jobs: the first event is then counted at once."""
    try:
        with redis.Redis.from_url(redis_url, socket_timeout=1, retry=None) as connection:
            return bool(connection.scard("rq:workers:counters"))
    except redis.RedisError:
        return False


class Program(Member):
    """One run after another of a command; its output goes to `<name>.log`."""

    def __init__(self, command: Command, environment: Mapping[str, str], logs: Path) -> None:
        self.name = command.name
        self.log = logs / f"{command.name}.log"
        self._arguments = command.arguments
        self._environment = {**environment, **command.environment}
        self._is_reaped = False

    def start(self) -> None:
        self.reap()
        self._process = processes.spawn(self._arguments, self.log, self._environment)
        self._is_reaped = False

    def reap(self) -> None:
        """Kill what an ended process has left of its group: workers of gunicorn keep the port.

        Once only and soon after the end: later, the id may be another group's.
        """
        if self._process is not None and not self._is_reaped:
            processes.kill_group(self._process.pid)
            self._process.wait()
            self._is_reaped = True
