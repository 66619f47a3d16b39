"""The folder of Postgres' data: where it is, whose it is, and how it comes to be."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from sandbox import state
from sandbox.accounts import Account
from sandbox.errors import SandboxError

NOTE = "postgres-data.txt"


def locate(home: Path, account: Account, major: int) -> Path:
    """Return where the data of this home is or will be, for this major version of Postgres.

    That is in the home itself, or else in root's `state`, when the account may not enter the
    home; a note in the home then says so, and decides from then on.

    Raises: SandboxError if there is data that this Postgres cannot take up. A new, empty
            database in its stead would look like a loss.
    """
    base = _base(home, account)
    folder = base / f"postgres-{major}"
    for data in [folder] if folder.exists() else _data_folders(base):
        _check_owner(data, account)
        _check_version(data, major)
    return folder


def create(folder: Path, programs: Path, user: str, account: Account, *, sync: bool) -> None:
    """Run `initdb` under another name first: one that was interrupted leaves no half folder."""
    for leftover in folder.parent.glob(f"{folder.name}.partial-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(prefix=f"{folder.name}.partial-", dir=folder.parent))
    os.chown(draft, account.uid, account.gid)
    _initdb(programs, draft, user, account, sync=sync)
    draft.rename(folder)


def remove(home: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if folder.parent != home:
        folder.parent.rmdir()
        (home / NOTE).unlink(missing_ok=True)


def _base(home: Path, account: Account) -> Path:
    note = home / NOTE
    if not note.exists() and account.may_enter(home):
        return home
    if not note.exists() and (inside := _data_folders(home)):
        raise SandboxError(
            f"Postgres runs as user id {account.uid}, which may not enter {inside[0]} any more; "
            "open the folders above it to that user, or set STRIPEMETER_HOME to another place."
        )
    base = state.folder(hashlib.sha256(os.fsencode(home)).hexdigest()[:16])
    _write_note(note, base)
    return base


def _write_note(note: Path, base: Path) -> None:
    if not note.exists():
        note.write_text(f"Postgres may not enter this folder, so its data is in\n{base}\n")
    elif note.read_text().splitlines()[-1] != str(base):
        raise SandboxError(
            f"{note.parent} was moved or copied from elsewhere, and {note} names the data of the "
            f"old place; move that data to {base} and correct the note, or delete the note to "
            "start with an empty database."
        )


def _data_folders(base: Path) -> list[Path]:
    folders = sorted(base.glob("postgres-*"))
    return [each for each in folders if each.name.removeprefix("postgres-").isdigit()]


def _check_owner(folder: Path, account: Account) -> None:
    owner = folder.stat().st_uid
    if owner != account.uid:
        raise SandboxError(
            f"{folder} belongs to user id {owner} and Postgres would run as user id "
            f"{account.uid}; run StripeMeter as the user who ran it first."
        )


def _check_version(folder: Path, major: int) -> None:
    found = _version(folder)
    if found != str(major):
        raise SandboxError(
            f"{folder} was made by Postgres {found} and the one installed is Postgres {major}; "
            f"install Postgres {found} again, or move the folder away."
        )


def _version(folder: Path) -> str:
    file = folder / "PG_VERSION"
    return file.read_text().strip() if file.exists() else "(unknown)"


def _initdb(programs: Path, folder: Path, user: str, account: Account, *, sync: bool) -> None:
    options = ["--auth=trust", "--data-checksums", "--locale=C", "--encoding=UTF8"]
    options += ["--no-instructions", *([] if sync else ["--no-sync"])]
    done = account.run([programs / "initdb", "-D", folder, "-U", user, *options])
    if done.returncode != 0:
        shutil.rmtree(folder, ignore_errors=True)
        raise SandboxError(f"initdb failed:\n{done.stderr}")
