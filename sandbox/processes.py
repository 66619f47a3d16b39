"""Starting processes, ending them, and remembering them for the day we are killed."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from sandbox.accounts import Credentials

LOG_BYTES = 10 * 1024 * 1024
# The start time of a process is told from the boot time, which moves by a second when the clock
# is set right. A process id is not used again that soon.
START_TIME_SECONDS = 2.0
GRACE_SECONDS = 10.0


def spawn(
    command: Sequence[str | Path],
    log: Path,
    environment: Mapping[str, str],
    credentials: Credentials | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, so that Ctrl-C reaches the supervisor only.

    The log is opened by us: the account that runs the program may not be able to.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_name(f"{log.name}.1"))
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            **(credentials or {}),
        )


def tail(log: Path, lines: int = 20) -> str:
    """Return the last lines of a log, at most 64 kB of them."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 65_536))
        text = file.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-lines:])


def is_alive(process: psutil.Process) -> bool:
    """Whether the process still does something; a zombie waits for its parent only."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def signal_all(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def gone(
    processes: Collection[psutil.Process],
    seconds: float,
    sleep: Callable[[float], object] = time.sleep,
    hurried: Callable[[], bool] = lambda: False,
) -> bool:
    """Wait until all have ended; return False if they have not in time, or if we are hurried."""
    deadline = time.monotonic() + seconds
    while any(is_alive(process) for process in processes):
        if hurried() or time.monotonic() > deadline:
            return False
        sleep(0.02)
    return True


def end(
    leaders: Collection[psutil.Process],
    number: signal.Signals = signal.SIGTERM,
    seconds: float = GRACE_SECONDS,
    sleep: Callable[[float], object] = time.sleep,
    hurried: Callable[[], bool] = lambda: False,
) -> None:
    """Ask the leaders to end, and kill whatever of their families has not in time."""
    family = _families(leaders)
    signal_all(leaders, number)
    gone(leaders, seconds, sleep, hurried)
    _kill(family | _families(leaders))


def kill_family(leader: psutil.Process) -> None:
    """SIGKILL the process, its group and its descendants, and wait for them."""
    family = _families([leader])
    kill_group(leader.pid)
    _kill(family)


def kill_group(leader_pid: int) -> None:
    """SIGKILL what is left of the session which this process led."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader_pid, signal.SIGKILL)


def remember(path: Path, pids: Mapping[str, int]) -> None:
    """Write down who runs, by name, for `remembered` in a later life."""
    records = []
    for name, pid in pids.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            started = psutil.Process(pid).create_time()
            records.append({"name": name, "pid": pid, "create_time": started})
    draft = path.with_suffix(".partial")
    draft.write_text(json.dumps(records, indent=1))
    draft.replace(path)


def remembered(path: Path) -> dict[str, psutil.Process]:
    """Return those of a former life that still run: the same id and the same start time."""
    found = {}
    for record in json.loads(path.read_text()) if path.exists() else []:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(record["pid"])
            drift = abs(process.create_time() - record["create_time"])
            if drift < START_TIME_SECONDS and is_alive(process):
                found[record["name"]] = process
    return found


def _families(leaders: Iterable[psutil.Process]) -> set[psutil.Process]:
    """Return the leaders and their descendants.

    The group would not do: backends of Postgres and work-horses of RQ have groups of their own.
    """
    family = set(leaders)
    for leader in leaders:
        with contextlib.suppress(psutil.NoSuchProcess):
            family.update(leader.children(recursive=True))
    return family


def _kill(family: Collection[psutil.Process]) -> None:
    signal_all(family, signal.SIGKILL)
    gone(family, GRACE_SECONDS)
