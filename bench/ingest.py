"""Ingest over HTTP: batches, single events, and batches that were sent before."""

import statistics
from collections.abc import Callable

from bench import rounds
from bench.client import Client, Plan
from bench.rounds import Line, Sample
from bench.setting import TENANT, Setting

FRESH = b'{"accepted":1000,"duplicates":0,'
SENT_BEFORE = b'{"accepted":0,"duplicates":1000,'
# Requests that are built for a round: more than can be answered in its time.
BATCHES_A_SECOND, SINGLES_A_SECOND = 60, 4000
DUPLICATE_BATCHES = 40


def batches(setting: Setting, *, clients: int, name: str | None = None, fresh: bool = True) -> Line:
    """Batches of 1000. fresh: into empty tables, else into what the ledger holds already."""

    def prepare() -> Callable[[], Sample]:
        if fresh:
            setting.empty()
        count = int(BATCHES_A_SECOND * setting.seconds) * 1000
        series = setting.timeline.series(TENANT, count)
        plan = Plan(setting.stack.port, series, clients, seconds=setting.seconds, expected=(FRESH,))
        client = Client(plan)
        return lambda: _measured(setting, client)

    done = rounds.against(setting, setting.floor.copy, prepare, setting.rounds)
    title = f"ingest, batches of 1000, {clients} client{'s' if clients > 1 else ''}"
    return rounds.line(name or f"ingest_batches_{clients}", title, "events/s", done)


def singles(setting: Setting, *, connections: int) -> Line:
    """One event a request."""

    def prepare() -> Callable[[], Sample]:
        setting.empty()
        series = setting.timeline.series(TENANT, int(SINGLES_A_SECOND * setting.seconds))
        client = Client(
            Plan(
                setting.stack.port,
                series,
                connections,
                per_body=1,
                seconds=setting.seconds,
                expected=(b'{"accepted":1,',),
            )
        )
        return lambda: _measured(setting, client)

    done = rounds.against(setting, setting.floor.commit, prepare, setting.rounds)
    title = f"ingest, single events, {connections} connection{'s' if connections > 1 else ''}"
    return rounds.line(f"ingest_singles_{connections}", title, "events/s", done)


def _measured(setting: Setting, client: Client) -> Sample:
    cpu, wal = setting.stack.cpu(), setting.wal_position()
    shares = [process.cpu_times().user for process in setting.stack.web_processes()]
    load = client.run()
    spent, written = setting.stack.cpu().since(cpu), setting.wal_position() - wal
    busy = [
        process.cpu_times().user - before
        for process, before in zip(setting.stack.web_processes(), shares, strict=True)
    ]
    details = rounds.microseconds(spent, load.cpu_seconds, load.events)
    details |= {
        "p50_ms": load.milliseconds(0.5),
        "p95_ms": load.milliseconds(0.95),
        "wal_bytes_per_event": written / load.events,
        # 0.5 where the two web processes shared the work, 1 where one had all connections.
        "busiest_web_share": max(busy) / max(0.01, sum(busy)),
    }
    return load.rate, details


def duplicates(setting: Setting) -> Line:
    """The time of a batch that was sent before, to that of a fresh one."""
    values, fresh_ms, again_ms = [], [], []
    for _ in range(setting.rounds):
        setting.empty()
        series = setting.timeline.series(TENANT, DUPLICATE_BATCHES * 1000)
        plan = Plan(setting.stack.port, series, 1, expected=(FRESH, SENT_BEFORE))
        latencies = [seconds * 1000 for _, seconds in Client(plan).run().answers]
        fresh_ms.append(statistics.median(latencies[:DUPLICATE_BATCHES]))
        again_ms.append(statistics.median(latencies[DUPLICATE_BATCHES:]))
        values.append(again_ms[-1] / fresh_ms[-1])
    return Line(
        "duplicates",
        "a batch sent again, to its first time",
        statistics.median(values),
        "x",
        spread=(min(values), max(values)),
        details={"fresh_ms": statistics.median(fresh_ms), "again_ms": statistics.median(again_ms)},
    )
