"""How the user asks us to stop: a flag that signals set, never an exception in mid-step."""

import contextlib
import os
import select
import signal
from types import FrameType


class StopRequests:
    """Counts SIGINT, SIGTERM and SIGHUP, and cuts our own naps short."""

    def __init__(self) -> None:
        self._count = 0
        self._wakeups, self._alarm = os.pipe()
        os.set_blocking(self._wakeups, False)
        os.set_blocking(self._alarm, False)

    @property
    def requested(self) -> bool:
        return self._count > 0

    @property
    def hurried(self) -> bool:
        """Asked more than once."""
        return self._count > 1

    def listen(self) -> None:
        signal.signal(signal.SIGINT, self._note)
        signal.signal(signal.SIGTERM, self._note)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # `nohup make dev` goes on
            signal.signal(signal.SIGHUP, self._note)

    def sleep(self, seconds: float) -> None:
        """Sleep until a request comes, at most that long."""
        select.select([self._wakeups], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(self._wakeups, 64)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._count += 1
        with contextlib.suppress(BlockingIOError):
            os.write(self._alarm, b".")
