"""`python -m bench [name …]`: measure everything, or what is named.

BENCH_ONLY=name,name    the same as arguments
BENCH_QUICK=1           short rounds, to see whether it works; nothing is written
BENCH_LARGE=1           with 20 million events in the ledger besides (or their number)
"""

import argparse
import os
import time
from collections.abc import Callable, Mapping

import psycopg
from sqlalchemy.engine import make_url

from bench import (
    arriving,
    backfill,
    folding,
    gates,
    idle,
    ingest,
    large,
    late,
    pricing,
    pushing,
    reading,
    replay,
    results,
    rounds,
    stack,
    table,
    together,
    widgets,
)
from bench.events import Timeline
from bench.floor import Floor
from bench.rounds import Line
from bench.setting import Setting

Measurement = Callable[[Setting], list[Line]]


def measurements(large_rows: int) -> dict[str, Measurement]:
    """By the names that they are asked for, in the order of the table."""
    chosen: dict[str, Measurement] = {
        "batches_1": lambda s: [ingest.batches(s, clients=1)],
        "batches_4": lambda s: _with_wal(ingest.batches(s, clients=4)),
        "duplicates": lambda s: [ingest.duplicates(s)],
        "singles_1": lambda s: [ingest.singles(s, connections=1)],
        "singles_10": lambda s: _with_p95(ingest.singles(s, connections=10)),
        "singles_100": lambda s: [ingest.singles(s, connections=100)],
    }
    for shape in folding.SHAPES:
        chosen[shape.name] = lambda s, shape=shape: _with_wal(folding.folds(s, shape))  # type: ignore[misc]
    chosen |= {
        "while_folding": together.while_folding,
        "catch_up": lambda s: [together.catch_up(s)],
        "late": lambda s: [late.late(s)],
        "backfill": backfill.backfill,
        "projection": lambda s: [reading.projection(s)],
        "memory": lambda s: [reading.memory(s)],
        "invoice": lambda s: [pricing.invoices(s)],
        "backtest_engine": lambda s: [pricing.engine(s)],
        "backtest": lambda s: [pricing.backtest(s)],
        "curve_page": lambda s: [pricing.page(s)],
        "pushes": pushing.pushes,
        "confirm": lambda s: [pushing.confirm(s)],
        "idle_tick": idle.tick,
        "to_stripe": lambda s: [arriving.to_stripe(s)],
        "replay": replay.month,
        "widgets": widgets.polls,
        "widget_paint": lambda s: [widgets.paint(s)],
    }
    if large_rows:
        chosen["large"] = lambda s: large.preloaded(s, large_rows)
    return chosen


def _with_p95(line: Line) -> list[Line]:
    p95 = line.details["p95_ms"]
    return [line, Line(f"{line.name}_p95", f"{line.title}, p95", p95, "ms")]


def _with_wal(line: Line) -> list[Line]:
    written = line.details["wal_bytes_per_event"]
    return [line, Line(f"{line.name}_wal", f"{line.title}, WAL", written, "bytes/event")]


def main() -> None:
    """Measure, print the table and write the file. A missed gate is told, never an exit code."""
    asked, quick = _asked(os.environ), os.environ.get("BENCH_QUICK", "") not in ("", "0")
    earlier, started, lines = results.earlier(), time.monotonic(), []
    with stack.running() as running, _connect(running) as sql, _connect(running) as writer:
        writer.autocommit = False
        setting = Setting(running, Floor(writer), sql, Timeline(), quick)
        around = results.surroundings(setting)
        print(f"{around['machine']}\n{around['postgres']}\n", flush=True)
        for name, measure in asked.items():
            print(f"{time.monotonic() - started:6.0f} s  {name} …", flush=True)
            lines += measure(setting)
        lines = rounds.floors(setting.floor) + lines
    print(f"\n{table.show(lines, earlier)}\n")
    _tell_missed([line for line in lines if gates.is_missed(line)])
    print(f"{time.monotonic() - started:.0f} s, load average {os.getloadavg()[0]:.1f}")
    if not quick:
        print(f"Written to bench/results/{results.write(lines, around).name}.")


def _asked(environ: Mapping[str, str]) -> dict[str, Measurement]:
    wanted_large = environ.get("BENCH_LARGE", "")
    rows = large.ROWS if wanted_large == "1" else int(wanted_large or 0)
    known = measurements(rows)
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("names", nargs="*", help=", ".join(known))
    names = parser.parse_args().names or environ.get("BENCH_ONLY", "").replace(",", " ").split()
    if unknown := sorted(set(names) - set(known)):
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(known)}")
    return {name: known[name] for name in known if not names or name in names}


def _connect(running: stack.Stack) -> "psycopg.Connection[tuple[object, ...]]":
    url = make_url(running.environment["DATABASE_URL"]).set(drivername="postgresql")
    return psycopg.connect(url.render_as_string(hide_password=False), autocommit=True)


def _tell_missed(missed: list[Line]) -> None:
    if not missed:
        print("Every gate is met.")
        return
    print(f"!!! {len(missed)} GATE{'S' if len(missed) > 1 else ''} MISSED !!!")
    for line in missed:
        print(
            f"!!! {line.title}: {gates.value_of(line):.3g} against {gates.GATES[line.name].bound:g}"
        )


if __name__ == "__main__":
    main()
