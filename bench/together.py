"""Ingest and fold at once, with a real worker: what is left of ingest, and how far behind it is."""

import statistics
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from decimal import Decimal

from bench import events, rounds
from bench.client import Client, Load, Plan
from bench.ingest import BATCHES_A_SECOND, FRESH
from bench.rounds import Line, Round, Sample
from bench.setting import TENANT, Setting

CLIENTS = 2
LONGEST_DRAIN_SECONDS = 90.0
CATCH_UP_EVENTS = 50_000
CATCH_UP_CUSTOMERS = 100
_FOLDED = "SELECT coalesce(sum(folded), 0)::bigint FROM tenant_locks"
_COUNTED = "SELECT coalesce(sum(sum_value), 0) FROM counters WHERE tenant_id = %s"


def while_folding(setting: Setting) -> list[Line]:
    """Two clients and a worker for a while, then the worker alone until nothing is left."""
    seconds = 4.0 if setting.quick else 15.0

    def prepare() -> Callable[[], Sample]:
        setting.empty()
        series = setting.timeline.series(TENANT, int(BATCHES_A_SECOND * seconds) * 1000)
        plan = Plan(setting.stack.port, series, CLIENTS, seconds=seconds, expected=(FRESH,))
        client = Client(plan)
        return lambda: _with_worker(setting, client, seconds)

    done = rounds.against(setting, setting.floor.copy, prepare, 1 if setting.quick else 2)
    ingest = rounds.line(
        "ingest_while_folding", "ingest while folding, 2 clients", "events/s", done
    )
    return [ingest, _backlog(done)]


def _with_worker(setting: Setting, client: Client, seconds: float) -> Sample:
    """Run the load with a worker; the backlog follows from answers and the tenants' totals."""
    with setting.stack.folding():
        before, cpu = setting.value(_FOLDED), setting.stack.cpu()
        client.go()
        totals = [(time.monotonic(), 0)]
        while time.monotonic() - totals[0][0] < seconds:
            time.sleep(0.1)
            totals.append((time.monotonic(), setting.value(_FOLDED) - before))
        load = client.result()
        spent = setting.stack.cpu().since(cpu)
        backlogs = list(_behind(load, totals))
        _wait(lambda: setting.value(_FOLDED) - before >= load.events)
        drained = time.monotonic()
    left = load.events - totals[-1][1]
    details = rounds.microseconds(spent, load.cpu_seconds, load.events)
    return load.rate, details | {
        "p95_ms": load.milliseconds(0.95),
        "greatest_backlog": max(backlogs),
        "backlog_at_half_time": backlogs[len(backlogs) // 2],
        "backlog_at_the_end": left,
        "backlog_growth_per_second": _slope(totals, backlogs),
        "drain_seconds": drained - load.ended,
        "drain_events_per_second": left / (drained - load.ended),
    }


def _behind(load: Load, totals: list[tuple[float, int]]) -> Iterator[int]:
    ends = [end for end, _ in load.answers]
    for at, folded in totals:
        yield max(0, bisect_right(ends, at) * load.per_body - folded)


def _slope(totals: list[tuple[float, int]], backlogs: list[int]) -> float:
    """Events a second by which the backlog grew, over the second half."""
    half = len(backlogs) // 2
    instants = [at for at, _ in totals[half:]]
    return statistics.linear_regression(instants, backlogs[half:]).slope


def _backlog(done: list[Round]) -> Line:
    """The backlog's growth as a share of ingest: 0 where the fold keeps up."""
    shares = [each.details["backlog_growth_per_second"] / each.figure for each in done]
    details = rounds.medians(done)
    names = ("greatest_backlog", "drain_seconds", "drain_events_per_second")
    return Line(
        "backlog_growth",
        "backlog's growth, as a share of ingest",
        max(0.0, statistics.median(shares)),
        "x",
        spread=(min(shares), max(shares)),
        details={name: details[name] for name in names},
    )


def catch_up(setting: Setting) -> Line:
    """From the last answer until the counters are right, for 50,000 events of 100 customers."""
    seconds = []
    for _ in range(2 if setting.quick else 4):
        setting.empty()
        series = setting.timeline.series(TENANT, CATCH_UP_EVENTS, customers=CATCH_UP_CUSTOMERS)
        wanted = sum((Decimal(e.quantity) for e in events.generate(series)), Decimal(0))
        client = Client(Plan(setting.stack.port, series, CLIENTS, expected=(FRESH,)))
        with setting.stack.folding():
            load = client.run()
            counted(setting, wanted)
            seconds.append(time.monotonic() - load.ended)
    return Line(
        "catch_up",
        "last answer to right counters, 50,000 events",
        statistics.median(seconds),
        "s",
        spread=(min(seconds), max(seconds)),
    )


def counted(setting: Setting, wanted: Decimal) -> None:
    """Wait until the counters come to this sum."""
    _wait(lambda: setting.value(_COUNTED, TENANT) == wanted)


def _wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONGEST_DRAIN_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise RuntimeError(f"the fold did not end in {LONGEST_DRAIN_SECONDS:.0f} s")
        time.sleep(0.01)
