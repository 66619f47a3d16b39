"""All the processes of a supervisor: watched, written down, and ended.

They do not ask the kernel to end them with us (PR_SET_PDEATHSIG): that is Linux' alone, needs
code between fork and exec, and ends a child with the *thread* that started it. When we are killed
they go on, and the next supervisor ends those which `children.json` names.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import psutil

from sandbox import processes
from sandbox.daemon import Daemon
from sandbox.postgres import Postgres
from sandbox.programs import Program
from sandbox.stopping import StopRequests
from sandbox.valkey import Valkey
from sandbox.watch import Watch

SERVERS: tuple[type[Daemon], ...] = (Valkey, Postgres)  # in the order of ending


class Children:
    def __init__(self, path: Path, stop: StopRequests) -> None:
        self._path = path
        self._stop = stop
        self._watches: list[Watch] = []

    def end_former(self) -> Collection[str]:
        """End what a killed supervisor has left behind; return the names."""
        found = processes.remembered(self._path)
        names = {server.name for server in SERVERS}
        self._end([process for name, process in found.items() if name not in names])
        for server in SERVERS:
            if server.name in found:
                processes.end([found[server.name]], *server.stop_signals[0])
        return found.keys()

    def watch(self, member: Daemon | Program) -> None:
        self._watches.append(Watch(member))
        self.remember()

    def look_after(self) -> list[str]:
        """Start again what has died; return what there is to tell the user."""
        before = self._pids()
        news = [line for watch in self._watches if (line := watch.look())]
        if self._pids() != before:
            self.remember()
        return news

    def remember(self, *others: Program) -> None:
        """Write down who runs: those watched, and others that run for a while only."""
        processes.remember(self._path, self._pids() | {each.name: each.pid for each in others})

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)

    def end(self, programs: Sequence[Program]) -> None:
        """End them together; a second Ctrl-C cuts the ten seconds of grace short."""
        self._end([psutil.Process(each.pid) for each in programs if each.running])
        for program in programs:
            program.reap()

    def _pids(self) -> dict[str, int]:
        return {watch.member.name: watch.member.pid for watch in self._watches}

    def _end(self, running: Sequence[psutil.Process]) -> None:
        processes.end(running, sleep=self._stop.sleep, hurried=lambda: self._stop.hurried)
