"""Brings everything up in order, keeps it up, and leaves nothing behind."""

import contextlib
import http.client
import shutil
import time
from collections.abc import Callable, Mapping, Sequence

from sandbox import instance, locks, ports, processes
from sandbox.banner import banner
from sandbox.children import Children
from sandbox.daemon import Daemon
from sandbox.errors import SandboxError
from sandbox.postgres import Postgres
from sandbox.programs import MIGRATION, PROGRAMS, Command, Program
from sandbox.settings import Settings
from sandbox.stopping import StopRequests
from sandbox.valkey import Valkey

LOOK_SECONDS = 0.1
READY_SECONDS = 60.0


def say(text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be gone; that must not stop a stop
        print(text, flush=True)


class Supervisor:
    def __init__(
        self,
        settings: Settings,
        migration: Command = MIGRATION,
        programs: Sequence[Command] = PROGRAMS,
        are_served: Callable[[str], bool] | None = None,
    ) -> None:
        """are_served: given the Redis URL, whether the workers take jobs yet."""
        self.settings = settings
        self.migration = migration
        self.programs = programs
        self.are_served = are_served
        self._run_folder = settings.home / "run"
        self._logs = settings.home / "logs"
        self._metrics = self._run_folder / "prometheus"
        self._stop = StopRequests()
        self._children = Children(self._run_folder / "children.json", self._stop)
        self._urls: dict[str, str] = {}

    def run(self) -> int:
        """Return the exit code, once everything has ended.

        Raises: SandboxError if it could not be brought up or kept up; everything has ended too.
        """
        lock = instance.claim(self._run_folder, self.settings.port)
        if lock is None:
            say(instance.already_running(self._run_folder))
            return 0
        with contextlib.ExitStack() as undo:
            undo.callback(locks.release, lock)
            self._stop.listen()
            self._end_former_life()
            ports.check_free(self.settings.port)
            self._bring_up(undo)
            self._keep_up()
        say("Stopped.")
        return 0

    def _end_former_life(self) -> None:
        if names := self._children.end_former():
            say(f"Ended what a killed run had left behind: {', '.join(names)}.")

    def _bring_up(self, undo: contextlib.ExitStack) -> None:
        """Take the steps in order, until the user wants to stop; `undo` learns how to go back."""
        undo.callback(self._children.forget)
        for step in (self._start_servers, self._migrate, self._start_programs):
            if not self._stop.requested:
                step(undo)
        self._wait_until_ready()
        if not self._stop.requested:
            embedded = None if self.settings.database_url else self._urls["DATABASE_URL"]
            say(banner(self.settings.port, embedded, self._logs))

    def _keep_up(self) -> None:
        while not self._stop.requested:
            self._look_after()
            self._stop.sleep(LOOK_SECONDS)
        say("Stopping …")

    def _start_servers(self, undo: contextlib.ExitStack) -> None:
        home = self.settings.home
        self._urls = {
            "DATABASE_URL": self.settings.database_url or self._start_server(Postgres(home), undo),
            "REDIS_URL": self.settings.redis_url or self._start_server(Valkey(home), undo),
        }
        self._write_urls(undo)

    def _write_urls(self, undo: contextlib.ExitStack) -> None:
        """Tell the `stripemeter` command, run in the same folder, where the servers are."""
        path = self._run_folder / "servers.env"
        undo.callback(path.unlink, missing_ok=True)
        path.touch(mode=0o600)
        path.write_text("".join(f"{name}='{url}'\n" for name, url in self._urls.items()))

    def _start_server(self, server: Daemon, undo: contextlib.ExitStack) -> str:
        say(f"Starting {server.name} …")
        undo.callback(server.stop)
        url = server.start()
        self._children.watch(server)
        return url

    def _migrate(self, undo: contextlib.ExitStack) -> None:
        say("Migrating the database …")
        self._empty_metrics()
        migration = self._program(self.migration)
        migration.log.unlink(missing_ok=True)  # only this run is of interest
        undo.callback(self._children.end, [migration])
        migration.start()
        self._children.remember(migration)
        while migration.running and not self._stop.requested:
            self._stop.sleep(LOOK_SECONDS)
        self._children.end([migration])
        if migration.exit_code != 0 and not self._stop.requested:
            raise SandboxError(f"The migration failed:\n{processes.tail(migration.log, 40)}")

    def _start_programs(self, undo: contextlib.ExitStack) -> None:
        self._empty_metrics()
        programs = [self._program(command) for command in self.programs]
        say(f"Starting {', '.join(program.name for program in programs)} …")
        undo.callback(self._children.end, programs)
        for program in programs:
            program.start()
            self._children.watch(program)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self._stop.requested and not (self._is_ready() and self._is_served()):
            self._look_after()
            if time.monotonic() > deadline:
                log = self._logs / "web.log"
                raise SandboxError(
                    f"It was not ready after {READY_SECONDS:.0f} s; {log} ends with:\n"
                    f"{processes.tail(log)}"
                )
            self._stop.sleep(LOOK_SECONDS)

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.settings.port, timeout=5)
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/health/ready")
                return connection.getresponse().status == http.HTTPStatus.OK
            except (OSError, http.client.HTTPException):
                return False

    def _is_served(self) -> bool:
        return self.are_served is None or self.are_served(self._urls["REDIS_URL"])

    def _empty_metrics(self) -> None:
        """Forget the counts of processes that are no more; the folder has to be there, though."""
        shutil.rmtree(self._metrics, ignore_errors=True)
        self._metrics.mkdir()

    def _look_after(self) -> None:
        for news in self._children.look_after():
            say(news)

    def _program(self, command: Command) -> Program:
        return Program(command, self._environment(), self._logs)

    def _environment(self) -> Mapping[str, str]:
        return {
            **self.settings.environment,
            **self._urls,
            "PORT": str(self.settings.port),
            "WEB_CONCURRENCY": self.settings.web_concurrency,
            "STRIPEMETER_SANDBOX": "1",
            "PROMETHEUS_MULTIPROC_DIR": str(self._metrics),
            "PYTHONUNBUFFERED": "1",  # logs are read while the programs run
        }
