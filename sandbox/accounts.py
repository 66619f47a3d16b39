"""Whose rights Postgres runs with: it refuses root, so root runs it as somebody else."""

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypedDict

from sandbox.errors import SandboxError

STAND_INS = ("postgres", "nobody")

# Nothing of our own environment: PGDATA, PGPORT or a locale would bend the servers.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


class Credentials(TypedDict, total=False):
    """The arguments of `subprocess.Popen` that change who runs the program, and from where."""

    user: int
    group: int
    extra_groups: list[int]
    cwd: str


@dataclass(frozen=True)
class Account:
    uid: int
    gid: int

    @classmethod
    def ours(cls) -> Self:
        return cls(os.geteuid(), os.getegid())

    @property
    def credentials(self) -> Credentials:
        # Our own working folder may be closed to the account, so the program starts in "/".
        if self.uid == os.geteuid():
            return {"cwd": "/"}
        return {"user": self.uid, "group": self.gid, "extra_groups": [], "cwd": "/"}

    def run(self, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
        """Run a short program as this account, out of the reach of Ctrl-C."""
        return subprocess.run(
            command,
            **self.credentials,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )

    def may_enter(self, folder: Path) -> bool:
        """Ask the kernel, as that account: modes alone do not tell (ACLs, mounts, namespaces)."""
        return self.run(["/bin/sh", "-c", 'test -x "$1"', "sh", folder]).returncode == 0

    def may_run(self, program: Path) -> bool:
        """Whether the program and the libraries it needs can be reached by this account."""
        try:
            return self.run([program, "--version"]).returncode == 0
        except PermissionError:
            return False


def postgres_account() -> Account:
    """Return ourselves, or the first of `STAND_INS` if we are root."""
    if os.geteuid() != 0:
        return Account.ours()
    for name in STAND_INS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise SandboxError(
        "Postgres refuses to run as root and this machine has no user `postgres` or `nobody`; "
        "run StripeMeter as a plain user, or set DATABASE_URL."
    )
