"""Keeping a process alive, up to a point."""

import time
from collections import deque

from sandbox import processes
from sandbox.daemon import Daemon
from sandbox.errors import SandboxError
from sandbox.programs import Program

PAUSE_SECONDS = 1.0
DEATHS = 5
WITHIN_SECONDS = 60.0


class Watch:
    """Starts a process again a second after it died, unless it dies five times a minute."""

    def __init__(self, member: Daemon | Program) -> None:
        self.member = member
        self._deaths: deque[float] = deque(maxlen=DEATHS)
        self._start_at: float | None = None

    def look(self) -> str | None:
        """Return what there is to tell the user, if anything.

        Raises: SandboxError with the end of the log, when starting it again is of no use.
        """
        now = time.monotonic()
        if self._start_at is not None and now >= self._start_at:
            self._start_at = None
            self.member.start()
        elif self._start_at is None and not self.member.running:
            return self._note_death(now)
        return None

    def _note_death(self, now: float) -> str:
        name, log = self.member.name, self.member.log
        self._deaths.append(now)
        self._start_at = now + PAUSE_SECONDS
        if len(self._deaths) == DEATHS and now - self._deaths[0] < WITHIN_SECONDS:
            raise SandboxError(
                f"{name} has died {DEATHS} times within a minute; {log} ends with:\n"
                f"{processes.tail(log)}"
            )
        return f"{name} died (exit code {self.member.exit_code}) and is started again; see {log}"
