"""The results as files: one a day, `bench/results/<date>.json`, with nothing about whose machine.

A run replaces what it measured and leaves the day's other measurements, for each of them stands
by its own rounds.
"""

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import gates
from bench.rounds import Line
from bench.setting import Setting

FOLDER = Path(__file__).parent / "results"
_SHOWN = (
    "server_version",
    "shared_buffers",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_compression",
    "max_wal_size",
)


def surroundings(setting: Setting) -> dict[str, Any]:
    """Versions, settings and the machine's size."""
    shown = {name: setting.value("SELECT current_setting(%s)", name) for name in _SHOWN}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = {
        "cores": cores,
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
    }
    return {"machine": machine, "postgres": shown}


def earlier() -> dict[str, float]:
    """The value of each measurement in the newest file that has it."""
    values: dict[str, float] = {}
    for file in sorted(FOLDER.glob("*.json")):
        for name, found in json.loads(file.read_text())["measurements"].items():
            values[name] = found["ratio"] if found["ratio"] is not None else found["figure"]
    return values


def write(lines: list[Line], around: dict[str, Any]) -> Path:
    """Put the lines into today's file."""
    now = datetime.now(UTC)
    file = FOLDER / f"{now.date().isoformat()}.json"
    kept = json.loads(file.read_text())["measurements"] if file.exists() else {}
    kept |= {line.name: _record(line, now) for line in lines}
    FOLDER.mkdir(exist_ok=True)
    file.write_text(json.dumps(around | {"measurements": kept}, indent=1) + "\n")
    return file


def _record(line: Line, now: datetime) -> dict[str, Any]:
    return {
        "title": line.title,
        "figure": _short(line.figure),
        "unit": line.unit,
        "ratio": _short(line.ratio) if line.ratio is not None else None,
        "spread": [_short(value) for value in line.spread] if line.spread else None,
        "verdict": gates.verdict(line),
        "measured_at": now.isoformat(timespec="seconds"),
        "details": {name: _short(value) for name, value in line.details.items()},
    }


def _short(value: float) -> float:
    """Four significant digits: the rest is noise."""
    return float(f"{value:.4g}")
