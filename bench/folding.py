"""The fold by itself: how fast a backlog becomes counters, in one process as in the worker."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from bench import events, rounds
from bench.events import Series
from bench.rounds import Line, Sample
from bench.setting import TENANT, Setting
from metering.catalog import metrics
from metering.counters import fold
from metering.database import unit_of_work
from metering.ledger import append

ROUNDS = 3
BACKLOG = 100_000


@dataclass(frozen=True)
class Shape:
    """span: over which time the events of all rounds are spread, evenly and in order.

    resources: different ones per customer, for exact unique counts; 0: none are kept.
    """

    name: str
    title: str
    customers: int
    span: timedelta
    resources: int = 0


SHAPES = (
    Shape("fold_1000", "fold, 1,000 customers", 1_000, timedelta(hours=3)),
    Shape("fold_200000", "fold, 200,000 customers over a month", 200_000, timedelta(days=28)),
    Shape("fold_unique", "fold, 1,000 customers, unique", 1_000, timedelta(hours=3), resources=500),
)


def folds(setting: Setting, shape: Shape) -> Line:
    """Fold a backlog; each round goes on where the one before has left counters and segments."""
    backlog = 20_000 if setting.quick else BACKLOG
    start = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    step = shape.span / (2 * ROUNDS * backlog)
    setting.empty()
    with Session(setting.stack.engine) as session:
        if shape.resources:
            with unit_of_work(session):
                metrics.edit(
                    session, TENANT, events.METRIC, {"unique_enabled": True}, now=datetime.now(UTC)
                )
        filled = 0

        def prepare() -> Callable[[], Sample]:
            nonlocal filled
            at = start + step * backlog * filled
            filled += 1
            series = Series(
                TENANT, at, backlog, shape.customers, filled, step, resources=shape.resources
            )
            fill(session, series)
            return lambda: _fold_all(setting, session)

        done = rounds.against(setting, setting.floor.copy, prepare, ROUNDS)
    return rounds.line(shape.name, shape.title, "events/s", done)


def fill(session: Session, series: Series) -> None:
    """Append a series, as ingest would."""
    for batch in events.entries(series):
        with unit_of_work(session):
            append.append(session, series.tenant, batch, now=datetime.now(UTC))


def _fold_all(setting: Setting, session: Session) -> Sample:
    cpu, wal = setting.stack.cpu(), setting.wal_position()
    own = time.process_time()
    started, taken, slowest = time.perf_counter(), 0, 0.0
    while True:
        begun = time.perf_counter()
        with unit_of_work(session):
            folded = fold.fold(session, TENANT, now=datetime.now(UTC))
        if folded is None or not folded.taken:
            break
        taken += folded.taken
        slowest = max(slowest, time.perf_counter() - begun)
    seconds = time.perf_counter() - started
    spent = setting.stack.cpu().since(cpu)
    return taken / seconds, {
        "slowest_transaction_ms": slowest * 1000,
        "wal_bytes_per_event": (setting.wal_position() - wal) / taken,
        "postgres_us_per_event": spent.postgres * 1e6 / taken,
        "worker_us_per_event": (time.process_time() - own) * 1e6 / taken,
    }
