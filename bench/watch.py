"""Whether the machine was ours alone: what others took of it while we measured."""

import os
import time

import psutil

from bench.stack import Stack


class Watch:
    """Begins with its making."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._started = time.monotonic()
        self._busy, self._ours = _busy(), self._spent()

    def others_share(self) -> float:
        """The share of the machine's time, 0 to 1, that went to what is not of this run.

        0 where the database is not ours, for its processes cannot be told from others.
        """
        if not self._stack.owns_postgres:
            return 0.0
        foreign = (_busy() - self._busy) - (self._spent() - self._ours)
        lasted = time.monotonic() - self._started
        return max(0.0, foreign / (lasted * (os.cpu_count() or 1)))

    def _spent(self) -> float:
        cpu, own = self._stack.cpu(), os.times()
        return cpu.total + sum(own[:4])


def _busy() -> float:
    """Seconds that all cores together have worked, or were not given by the host."""
    times = psutil.cpu_times()._asdict()
    idle = times["idle"] + times.get("iowait", 0.0)
    doubled = times.get("guest", 0.0) + times.get("guest_nice", 0.0)
    total: float = sum(times.values()) - idle - doubled
    return total
