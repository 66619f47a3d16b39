"""What Postgres and Valkey have in common: one process each, which one owner starts and ends."""

import contextlib
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import ClassVar

import psutil

from sandbox import locks, processes, sockets
from sandbox.accounts import ENVIRONMENT, Account
from sandbox.errors import SandboxError
from sandbox.member import Member


class Daemon(Member, ABC):
    """A server program on a home, owned by whoever started it until it is stopped.

    The owner holds a lock on the home. Whoever gets the lock may therefore end a server that
    still runs there: its owner has been killed.
    """

    program_names: ClassVar[tuple[str, ...]]
    socket_names: ClassVar[tuple[str, ...]]
    stop_signals: ClassVar[tuple[tuple[signal.Signals, float], ...]]  # and seconds to wait
    start_seconds: ClassVar[float]

    def __init__(self, home: Path) -> None:
        self.home = Path(home).resolve()
        self.log = self.home / "logs" / f"{self.name}.log"
        self._lock: int | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """The address, known before the server runs."""

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where the server keeps its files; also its working folder, by which it is found."""

    @abstractmethod
    def _prepare(self) -> None:
        """Make what the server needs; nothing else runs on the folder now."""

    @abstractmethod
    def _command(self) -> list[str | Path]: ...

    @abstractmethod
    def _answers(self) -> bool: ...

    @cached_property
    def _account(self) -> Account:
        return Account.ours()

    @cached_property
    def _sockets(self) -> Path:
        return sockets.folder_for(self.home, self._account)

    def start(self) -> str:
        """Start the server unless it runs; return its URL.

        Raises: SandboxError with the last lines of the log, or if another process owns it.
        """
        if self.running:
            return self.url
        self._own()
        with contextlib.ExitStack() as undo:
            undo.callback(self.kill)
            self._end_leftovers()
            self._clear_sockets()
            sockets.claim(self._sockets, self._account)
            self._prepare()
            self._process = processes.spawn(
                self._command(), self.log, ENVIRONMENT, self._account.credentials
            )
            self._wait_for_answer()
            undo.pop_all()
        return self.url

    def stop(self) -> None:
        """End the server in good order, or by force when that takes too long."""
        for number, seconds in self.stop_signals:
            if not self.running:
                break
            self._signal(number, seconds)
        self.kill()

    def kill(self) -> None:
        """End the server as a crash would, with all its processes."""
        if self._process is not None:
            if self.running:
                processes.kill_family(psutil.Process(self._process.pid))
            self._process.wait()
            self._process = None
        if self._lock is not None:
            self._clear_sockets()
            locks.release(self._lock)
            self._lock = None

    def restart(self) -> str:
        self.stop()
        return self.start()

    def __enter__(self) -> str:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _clear_sockets(self) -> None:
        # A lock of a socket that names a recycled process id would stop the next start.
        sockets.clear(self._sockets, self._account, *self.socket_names)

    def _own(self) -> None:
        if self._lock is None:
            self._lock = locks.acquire(self.home / "run" / f"{self.name}.lock")
        if self._lock is None:
            raise SandboxError(f"The {self.name} of {self.home} is already run by another process.")

    def _end_leftovers(self) -> None:
        if not self.folder.exists():
            return
        leftovers = _processes_in(self.folder, self.program_names)
        first, seconds = self.stop_signals[0]
        leaders = [each for each in leftovers if not _is_child_of(each, leftovers)]
        processes.end(leaders, first, seconds)

    def _wait_for_answer(self) -> None:
        deadline = time.monotonic() + self.start_seconds
        while not self._answers():
            if not self.running or time.monotonic() > deadline:
                lines = processes.tail(self.log)
                raise SandboxError(f"{self.name} did not start; {self.log} ends with:\n{lines}")
            time.sleep(0.02)

    def _signal(self, number: signal.Signals, seconds: float) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)


def _processes_in(folder: Path, names: tuple[str, ...]) -> list[psutil.Process]:
    """Return the processes of that name whose working folder this is; Postgres and Valkey move
    into their data folder, so that a recycled process id is never mistaken for a server."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name() in names and Path(process.cwd()) == folder.resolve():
                found.append(process)
    return found


def _is_child_of(process: psutil.Process, others: list[psutil.Process]) -> bool:
    try:
        return process.ppid() in {other.pid for other in others}
    except psutil.NoSuchProcess:
        return True
