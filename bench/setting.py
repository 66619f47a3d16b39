"""What every measurement is given: the stack, the floor, and how long to take."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from sqlalchemy import text
from sqlalchemy.orm import Session

from bench.events import Timeline
from bench.floor import Floor
from bench.stack import Stack
from metering.database import unit_of_work
from metering.tenancy import tenants

TENANT = "bench"
_TABLES = (
    "events, unfolded, counters, segments, unique_members, set_aside, dead_letters, metrics,"
    " periods, backtests, backtest_results, mappings, unsent, held, unsendable, pushes,"
    " push_streams, stream_sources, push_totals, stripe_connections, stripe_meters,"
    " account_bindings, widget_tokens, widget_frames, adjustments, adjustment_steps, voids,"
    " void_steps, corrected_counters, corrected_segments, corrected_members, backfills,"
    " backfill_parts, backfill_errors"
)


@dataclass(frozen=True)
class Setting:
    """quick: a few short rounds, to see whether everything works."""

    stack: Stack
    floor: Floor
    sql: "psycopg.Connection[Any]"
    timeline: Timeline
    quick: bool

    @property
    def rounds(self) -> int:
        return 2 if self.quick else 5

    @property
    def seconds(self) -> float:
        return 1.0 if self.quick else 2.5

    def value(self, statement: str, *parameters: object) -> Any:
        row = self.sql.execute(statement, parameters).fetchone()
        return row[0] if row else None

    def empty(self, tenant: str = TENANT) -> None:
        """Throw away all that was metered, and see that the tenant exists."""
        with Session(self.stack.engine) as session, unit_of_work(session):
            # The ledger refuses it; only its owner can put the guard aside.
            session.execute(text("ALTER TABLE events DISABLE TRIGGER events_are_kept"))
            session.execute(text(f"TRUNCATE {_TABLES}"))
            session.execute(text("ALTER TABLE events ENABLE TRIGGER events_are_kept"))
            tenants.ensure(session, tenant, mode="test", now=datetime.now(UTC))

    def wal_position(self) -> int:
        """Bytes of write-ahead log ever written."""
        return int(self.value("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"))
