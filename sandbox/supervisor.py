"""Brings everything up in order, keeps it up, and leaves nothing behind."""

import contextlib
import http.client
import shutil
import time
from collections.abc import Callable, Mapping, Sequence

from sandbox import instance, locks, ports, processes, statement_key
from sandbox.banner import banner
from sandbox.children import Children
from sandbox.daemon import Daemon
from sandbox.errors import SandboxError
from sandbox.postgres import Postgres
from sandbox.programs import MIGRATION, PROGRAMS, Command, Program
from sandbox.settings import Settings
from sandbox.standin import StandIn
from sandbox.stopping import StopRequests
from sandbox.valkey import Valkey

LOOK_SECONDS = 0.1
READY_SECONDS = 60.0
DEMO_SECONDS = 60.0


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
        beside: Callable[[Settings], StandIn] | None = None,
    ) -> None:
        """are_served: given the Redis URL, whether the workers take jobs yet.
        beside: chooses where a stand-in for Stripe runs; None: there is none."""
        self.settings = settings
        self.migration = migration
        self.programs = programs
        self.are_served = are_served
        self.beside = beside
        self._run_folder = settings.home / "run"
        self._logs = settings.home / "logs"
        self._metrics = self._run_folder / "prometheus"
        self._stop = StopRequests()
        self._children = Children(self._run_folder / "children.json", self._stop)
        self._urls: dict[str, str] = {}
        self._stand_in: StandIn | None = None

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
            self._stand_in = self.beside(self.settings) if self.beside else None
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
        self._wait_until(self._is_up, "web")
        if self._stand_in is not None and not self._stop.requested:
            self._start_demo(self._stand_in, undo)
        if not self._stop.requested:
            embedded = None if self.settings.database_url else self._urls["DATABASE_URL"]
            say(banner(self.settings.port, embedded, self._logs, self._stand_in))

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
        told = {**self._urls, **statement_key.environment(self.settings)}
        if self._stand_in is not None:
            told |= {"STRIPEMETER_SANDBOX": "1", **self._stand_in.environment}
        path.write_text("".join(f"{name}='{value}'\n" for name, value in told.items()))

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
        commands = list(self.programs)
        if self._stand_in is not None:
            commands.insert(0, self._stand_in.command)
        self._start([self._program(command) for command in commands], undo)

    def _start(self, programs: Sequence[Program], undo: contextlib.ExitStack) -> None:
        say(f"Starting {', '.join(program.name for program in programs)} …")
        undo.callback(self._children.end, programs)
        for program in programs:
            program.start()
            self._children.watch(program)

    def _start_demo(self, stand_in: StandIn, undo: contextlib.ExitStack) -> None:
        """Make the demo's data; a demo that fails is told of and stops nothing."""
        say("Making the demo's data …")
        data = self._program(stand_in.demo_data)
        data.log.unlink(missing_ok=True)
        undo.callback(self._children.end, [data])
        data.start()
        self._children.remember(data)
        deadline = time.monotonic() + DEMO_SECONDS
        while data.running and not self._stop.requested and time.monotonic() < deadline:
            self._look_after()
            self._stop.sleep(LOOK_SECONDS)
        self._children.end([data])
        self._children.remember()
        if data.exit_code != 0 and not self._stop.requested:
            say(f"The demo's data could not be made:\n{processes.tail(data.log, 5)}")
        self._start([self._program(stand_in.demo_page)], undo)
        self._wait_until(lambda: self._answers(stand_in.demo_port, "/demo.css"), "demo")

    def _wait_until(self, is_up: Callable[[], bool], program: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self._stop.requested and not is_up():
            self._look_after()
            if time.monotonic() > deadline:
                log = self._logs / f"{program}.log"
                raise SandboxError(
                    f"It was not ready after {READY_SECONDS:.0f} s; {log} ends with:\n"
                    f"{processes.tail(log)}"
                )
            self._stop.sleep(LOOK_SECONDS)

    def _is_up(self) -> bool:
        stripe = self._stand_in is None or self._answers(self._stand_in.port, "/_sandbox/clock")
        return stripe and self._answers(self.settings.port, "/health/ready") and self._is_served()

    def _answers(self, port: int, path: str) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.closing(connection):
            try:
                connection.request("GET", path)
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
        stripe = self._stand_in.environment if self._stand_in is not None else {}
        return {
            **self.settings.environment,
            **self._urls,
            **statement_key.environment(self.settings),
            **stripe,
            "PORT": str(self.settings.port),
            "WEB_CONCURRENCY": self.settings.web_concurrency,
            "STRIPEMETER_SANDBOX": "1",
            "PROMETHEUS_MULTIPROC_DIR": str(self._metrics),
            "PYTHONUNBUFFERED": "1",  # logs are read while the programs run
        }
