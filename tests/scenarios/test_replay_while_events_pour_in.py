"""Events pour in over several connections, the fold runs, counters are damaged and replayed again
and again: every event counts once."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import cycle

from sqlalchemy import text
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from metering.catalog.period import Span
from metering.counters import fold
from metering.counters import replay as counted
from metering.counters.doubts import Scope
from metering.counters.replay import Budget
from metering.database import unit_of_work
from metering.ledger import append
from metering.proof import replay
from metering.proof.replay import Asked, Page
from tests.support import entry, fold_all

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
MONTH = Span(NOVEMBER, datetime(2026, 12, 1, tzinfo=UTC))
NOW = datetime(2026, 11, 20, tzinfo=UTC)
SENDERS, BATCHES, BATCH, REPLAYS = 3, 25, 40, 8

DAMAGE = (
    "UPDATE segments SET sum_value = sum_value + 1000 WHERE tenant_id = :t",
    "DELETE FROM counters WHERE tenant_id = :t",
    "UPDATE counters SET event_count = event_count - 1 WHERE tenant_id = :t",
    "DELETE FROM segments WHERE tenant_id = :t AND customer_ref = 'cus_1'",
)


# In one statement: what is in the ledger and neither waits nor is in a segment, or in a counter.
_MISSING = """
SELECT e.events - u.events - s.events, e.events - u.events - c.events
FROM (SELECT count(*) AS events FROM events WHERE tenant_id = :t) AS e,
     (SELECT count(*) AS events FROM unfolded WHERE tenant_id = :t) AS u,
     (SELECT coalesce(sum(event_count), 0) AS events FROM segments WHERE tenant_id = :t) AS s,
     (SELECT coalesce(sum(event_count), 0) AS events FROM counters WHERE tenant_id = :t) AS c
"""


def test_every_event_counts_once(engine: Engine, session: Session, tenant: str) -> None:
    sent = threading.Event()

    def send(sender: int) -> None:
        for number in range(BATCHES):
            entries = [
                entry(
                    f"{sender}-{number}-{i}",
                    2,
                    NOVEMBER + timedelta(minutes=(sender * 7 + number * 131 + i * 17) % 25_000),
                    customer=f"cus_{i % 5}",
                )
                for i in range(BATCH)
            ]
            with Session(engine) as own, unit_of_work(own):
                append.append(own, tenant, entries, now=NOW)

    def folding() -> None:
        while not sent.is_set():
            with Session(engine) as own, unit_of_work(own):
                fold.fold(own, tenant, now=NOW, limit=70)

    def replaying() -> int:
        mended, damage = 0, cycle(DAMAGE)
        for _ in range(REPLAYS):
            with Session(engine) as own, unit_of_work(own):
                _under_the_lock(own, tenant, next(damage))
            mended += sum(page.segments + page.counters for page in _replay(engine, tenant))
            with Session(engine) as own:
                assert own.execute(text(_MISSING), {"t": tenant}).one() == (0, 0)
        return mended

    with ThreadPoolExecutor(SENDERS + 2) as pool:
        folds = pool.submit(folding)
        replays = pool.submit(replaying)
        try:
            for sender in [pool.submit(send, number) for number in range(SENDERS)]:
                sender.result()
            assert replays.result() > 0
        finally:
            sent.set()
        folds.result()
    fold_all(session, tenant)
    assert _totals(session, tenant) == (2 * SENDERS * BATCHES * BATCH, SENDERS * BATCHES * BATCH)
    assert [page.is_right for page in _replay(engine, tenant)] == [True]


def _under_the_lock(session: Session, tenant: str, damage: str) -> None:
    """As a faulty writer would: never in the middle of a fold."""
    session.execute(text("SELECT 1 FROM tenant_locks WHERE tenant_id = :t FOR UPDATE"),
                    {"t": tenant})  # fmt: skip
    session.execute(text(damage), {"t": tenant})


def _replay(engine: Engine, tenant: str) -> Iterator[Page]:
    @contextmanager
    def step() -> Iterator[tuple[Session, datetime]]:
        with Session(engine) as own, unit_of_work(own):
            yield own, NOW

    asked = Asked(Scope(tenant), MONTH, applies=True)
    place: counted.Position | None = counted.start(MONTH)
    while place is not None:
        page = replay.page(step, asked, place, Budget(5.0))
        place = page.next
        yield page


def _totals(session: Session, tenant: str) -> tuple[int, int]:
    row = session.execute(
        text("SELECT sum(sum_value), sum(event_count) FROM counters WHERE tenant_id = :t"),
        {"t": tenant},
    ).one()
    session.rollback()
    return int(row[0]), int(row[1])
