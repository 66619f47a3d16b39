"""A million lines of CSV, from the end of the upload until the last of them is in the ledger.

One bulk worker and nothing else; the file is sent by HTTP, as anybody would. Its lines are of
`events`: most without a key, each with meta. The memory is the worker's with its fork, proportional
set size where the system tells it, the greatest that was seen.
"""

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil

from bench import events, rounds
from bench.rounds import Line, Round, Sample
from bench.setting import TENANT, Setting

LINES, LINES_QUICK = 1_000_000, 50_000
LONGEST_SECONDS = 300.0
_LOOK_SECONDS = 0.1
_HEADER = "tenantId,metric,customerRef,quantity,ts,meta,idempotencyKey\n"
_META = '"' + events.META.replace('"', '""') + '"'


def backfill(setting: Setting) -> list[Line]:
    """Lines a second against COPY, and the worker's memory meanwhile."""
    count = LINES_QUICK if setting.quick else LINES
    file = setting.stack.folder / "usage.csv"
    done: list[Round] = []
    # The floor drifts within half a minute more than between rounds: three are enough.
    for _ in range(1 if setting.quick else 3):
        setting.empty()
        _write(file, setting, count)
        address = _send(setting, file)
        before = setting.floor.copy()
        rate, details = _read(setting, address, count)
        done.append(Round(rate, (before + setting.floor.copy()) / 2, details))
    file.unlink()
    line = rounds.line("backfill", f"backfill, {count:,} lines of CSV", "lines/s", done)
    memory = [each.details["memory_mb"] for each in done]
    return [
        line,
        Line(
            "backfill_memory",
            "… and its worker's memory",
            max(memory),
            "MB",
            spread=(min(memory), max(memory)),
        ),
    ]


def _write(file: Path, setting: Setting, count: int) -> None:
    series = setting.timeline.series(TENANT, count)
    with file.open("w") as out:
        out.write(_HEADER)
        out.writelines(_lines(series))


def _lines(series: events.Series) -> Iterator[str]:
    for event in events.generate(series):
        at = event.at.replace(tzinfo=None).isoformat(timespec="microseconds")
        yield (
            f"{series.tenant},{series.metric},{event.customer},{event.quantity},{at}Z,{_META},"
            f"{event.key or ''}\n"
        )


def _send(setting: Setting, file: Path) -> str:
    """Upload it; where its progress is told."""
    query = urllib.parse.urlencode({"tenantId": TENANT, "reason": "bench"})
    base = f"http://127.0.0.1:{setting.stack.port}"
    with file.open("rb") as body:
        request = urllib.request.Request(
            f"{base}/v1/events/backfill?{query}",
            body,
            {"Content-Type": "text/csv", "Content-Length": str(file.stat().st_size)},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            found = json.load(answer)
    if found["state"] != "waiting":
        raise RuntimeError(f"the upload is {found['state']}")
    return f"{base}/v1/events/backfill/{found['id']}?tenantId={TENANT}"


def _read(setting: Setting, address: str, count: int) -> Sample:
    """Start a worker, which has the hint waiting, and look until the file is done."""
    greatest, found = 0.0, {"state": "waiting"}
    with setting.stack.working(["bulk"]) as leader:
        started, before = time.perf_counter(), setting.stack.cpu()
        while found["state"] in ("waiting", "running"):
            if time.perf_counter() - started > LONGEST_SECONDS:
                raise RuntimeError(f"the file was not read in {LONGEST_SECONDS:.0f} s: {found}")
            time.sleep(_LOOK_SECONDS)
            greatest = max(greatest, _megabytes(leader))
            with urllib.request.urlopen(address, timeout=30) as answer:
                found = json.load(answer)
        seconds = time.perf_counter() - started
        spent = setting.stack.cpu().since(before)
    if found["accepted"] != count:
        raise RuntimeError(f"not every line was taken: {found}")
    return count / seconds, rounds.microseconds(spent, 0.0, count) | {"memory_mb": greatest}


def _megabytes(leader: psutil.Process) -> float:
    total = 0
    for process in [leader, *leader.children(recursive=True)]:
        try:
            memory = process.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        total += getattr(memory, "pss", memory.uss)
    return total / 1e6
