"""The floor: what this Postgres does with the same rows when nothing stands in front of it.

`copy`: COPY of 1000-row batches into a ledger table with its primary key, one writer, one commit
a batch. `commits`: single-row INSERTs, one commit each. Both on a fresh table every time, for
about a second. The writer renders its rows to text within the time, and the keys are random, as
in the measurements that the gates were set by: without either the floor is a third higher.
"""

import hashlib
import time
from datetime import UTC, datetime
from typing import Any

import psycopg

from bench import events
from bench.events import Series

SECONDS = 0.8
BATCHES = 160
_TABLE = "bench_floor.events"
_CREATE = f"""
CREATE SCHEMA IF NOT EXISTS bench_floor;
DROP TABLE IF EXISTS {_TABLE};
CREATE TABLE {_TABLE} (
    tenant_id bigint NOT NULL,
    idempotency_key text NOT NULL,
    metric text NOT NULL,
    customer_ref text NOT NULL,
    quantity numeric(38, 9) NOT NULL,
    ts timestamptz NOT NULL,
    resource_id text,
    meta jsonb,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, idempotency_key)
)
"""
_COLUMNS = "tenant_id, idempotency_key, metric, customer_ref, quantity, ts, resource_id, meta"
_COPY = f"COPY {_TABLE} ({_COLUMNS}) FROM STDIN"
_INSERT = (
    f"INSERT INTO {_TABLE} ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
    " ON CONFLICT DO NOTHING"
)


class Floor:
    """Measures the floor on a connection of its own, as often as it is asked to."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._connection = connection
        series = Series("1", datetime.now(UTC), BATCHES * events.BATCH, customers=1000, seed=1)
        self._rows = [_row(series, event) for event in events.generate(series)]
        size = events.BATCH
        self._batches = [self._rows[i : i + size] for i in range(0, len(self._rows), size)]
        self.copies: list[float] = []
        self.commits: list[float] = []

    def copy(self) -> float:
        """Rows a second, by COPY."""
        self._fresh_table()
        started, done = time.perf_counter(), 0
        while done < len(self._batches) and time.perf_counter() - started < SECONDS:
            with self._connection.cursor() as cursor, cursor.copy(_COPY) as copy:
                copy.write("".join(map(_line, self._batches[done])))
            self._connection.commit()
            done += 1
        self.copies.append(done * events.BATCH / (time.perf_counter() - started))
        return self.copies[-1]

    def commit(self) -> float:
        """Commits a second, of a row each."""
        self._fresh_table()
        started, done = time.perf_counter(), 0
        while done < len(self._rows) and time.perf_counter() - started < SECONDS:
            self._connection.execute(_INSERT, self._rows[done])
            self._connection.commit()
            done += 1
        self.commits.append(done / (time.perf_counter() - started))
        return self.commits[-1]

    def _fresh_table(self) -> None:
        self._connection.execute(_CREATE)
        self._connection.commit()


def _row(series: Series, event: events.Event) -> tuple[object, ...]:
    key = hashlib.sha256(events.stored_key(series, event).encode()).hexdigest()[:32]
    return (1, key, series.metric, event.customer, event.quantity, event.at.isoformat(), None,
            events.META)  # fmt: skip


def _line(row: tuple[object, ...]) -> str:
    return "\t".join("\\N" if value is None else str(value) for value in row) + "\n"
