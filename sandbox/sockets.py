"""Short, private folders for the servers' sockets."""

import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path

from sandbox.accounts import Account
from sandbox.errors import SandboxError

# The address of a unix socket holds 107 bytes on Linux and 103 on macOS, and the names in the
# folder are at most `/.s.PGSQL.5432` long; a home deep in a disk would not do.
LONGEST_FOLDER = 103 - len("/.s.PGSQL.5432")


def folder_for(home: Path, account: Account) -> Path:
    """Return where the sockets of this home are, always the same; `claim` makes it."""
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:8]
    name = f"sm-{digest}-{account.uid}"
    for parent in (Path(tempfile.gettempdir()).resolve(), Path("/tmp")):
        folder = parent / name
        if len(os.fsencode(folder)) <= LONGEST_FOLDER and account.may_enter(parent):
            return folder
    raise SandboxError("No temporary folder is short and open enough for sockets; set TMPDIR.")


def claim(folder: Path, account: Account) -> None:
    """Make the folder, or trust the one that is there if nobody else can have made it.

    The temporary folder is shared: whoever owned this one would own the database.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if account.uid != os.geteuid() and _is_private(folder, os.geteuid()):
        os.chown(folder, account.uid, account.gid, follow_symlinks=False)
    if not _is_private(folder, account.uid):
        raise SandboxError(
            f"{folder} is not a private folder of user id {account.uid}; look who made it, "
            "then remove it."
        )


def clear(folder: Path, account: Account, *names: str) -> None:
    """Remove these sockets, and the folder unless another server still uses it."""
    if not _is_private(folder, account.uid):
        return
    for name in names:
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _is_private(folder: Path, uid: int) -> bool:
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    is_closed = found.st_mode & 0o077 == 0
    return stat.S_ISDIR(found.st_mode) and is_closed and found.st_uid == uid
