"""One supervisor to a home."""

import json
import os
from pathlib import Path

from sandbox import locks
from sandbox.banner import address

LOCK = "supervisor.lock"


def claim(run_folder: Path, port: int) -> int | None:
    """Return the descriptor that `locks.release` takes, or None if another supervisor runs."""
    lock = locks.acquire(run_folder / LOCK)
    if lock is not None:
        (run_folder / LOCK).write_text(json.dumps({"pid": os.getpid(), "port": port}))
    return lock


def already_running(run_folder: Path) -> str:
    try:
        other = json.loads((run_folder / LOCK).read_text())
    except ValueError:  # it has just got the lock and not yet written
        return "StripeMeter is already running."
    return (
        f"StripeMeter is already running at {address(other['port'])} (pid {other['pid']}); "
        "stop it with Ctrl-C in its terminal."
    )
