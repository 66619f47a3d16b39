"""The projection over HTTP, in money, and what the web holds in memory after all that load."""

import statistics
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from bench import rounds
from bench.client import PROJECTION, Client, Plan
from bench.events import METRIC
from bench.folding import fill
from bench.ingest import FRESH
from bench.pricing import CONFIG
from bench.rounds import Line
from bench.setting import TENANT, Setting
from metering.catalog import mappings
from metering.counters import fold
from metering.database import unit_of_work
from pricing.price import from_config

COUNTED, ASKED = 20_000, 400


def projection(setting: Setting) -> Line:
    """One client asks for one customer after another, of 1,000 with counted usage."""
    setting.empty()
    with Session(setting.stack.engine) as session:
        fill(session, setting.timeline.series(TENANT, COUNTED))
        with unit_of_work(session):
            give_a_price(session)
        while True:
            with unit_of_work(session):
                folded = fold.fold(session, TENANT, now=datetime.now(UTC))
            if folded is None or not folded.taken:
                break
    series = setting.timeline.series(TENANT, ASKED)
    plan = Plan(
        setting.stack.port, series, 1, per_body=1, path=PROJECTION, expected=(b'{"customerRef":',)
    )
    p50, p95, details = [], [], []
    for _ in range(setting.rounds):
        client, cpu = Client(plan), setting.stack.cpu()
        load = client.run()
        p50.append(load.milliseconds(0.5))
        p95.append(load.milliseconds(0.95))
        spent = setting.stack.cpu().since(cpu)
        details.append(rounds.microseconds(spent, load.cpu_seconds, load.events))
    return Line(
        "projection",
        "projection over HTTP, p95",
        statistics.median(p95),
        "ms",
        spread=(min(p95), max(p95)),
        details={"p50_ms": statistics.median(p50)}
        | {name: statistics.median(each[name] for each in details) for name in details[0]},
    )


def give_a_price(session: Session) -> None:
    """What is projected is money: three graduated tiers, for everyone."""
    now = datetime.now(UTC)
    wanted = {
        "metric": METRIC,
        "price": from_config(CONFIG),
        "effective_from": now - timedelta(days=365),
    }
    mappings.create(session, TENANT, mappings.id_of(None), wanted, now=now)


def memory(setting: Setting) -> Line:
    """The largest web process after batches on many connections, in MB of 10**6 bytes."""
    setting.empty()
    series = setting.timeline.series(TENANT, 100_000)
    Client(Plan(setting.stack.port, series, 16, expected=(FRESH,))).run()
    held = [process.memory_full_info() for process in setting.stack.web_processes()]
    return Line(
        "memory",
        "largest web process after the load",
        max(each.rss for each in held) / 1e6,
        "MB",
        details={"unshared_mb": max(each.uss for each in held) / 1e6},
    )
