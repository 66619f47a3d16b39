"""What the supervisor sees of all it looks after: a name, and a process that comes and goes."""

import subprocess

from sandbox.errors import SandboxError


class Member:
    """A server or a program. Whoever starts it sets `_process`; None: not started, or ended."""

    name: str
    _process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise SandboxError(f"{self.name} has not been started.")
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return None if self._process is None else self._process.poll()
