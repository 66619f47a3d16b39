"""What several tests need: making events, folding them, and counting them independently."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy import text
from sqlalchemy.orm import Session

from metering.counters import fold
from metering.database import unit_of_work
from metering.ledger import append
from metering.ledger.append import Entry, Outcome
from webapp.health import MIGRATIONS


def alembic_config(url: str) -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["database_url"] = url
    return config


def migrate(url: str, revision: str = "head") -> None:
    command.upgrade(alembic_config(url), revision)


def entry(
    key: str,
    quantity: object = 1,
    ts: str | datetime = "2026-11-10T12:00:00Z",
    *,
    metric: str = "api_calls",
    customer: str = "cus_1",
    resource: str | None = None,
    meta: str | None = None,
    source: str | None = None,
) -> Entry:
    """A ledger entry with everything a test does not care about filled in."""
    return Entry(
        idempotency_key=key,
        metric=metric,
        customer_ref=customer,
        quantity=msgspec.Raw(f'"{quantity}"'.encode()),
        occurred_at=ts if isinstance(ts, str) else ts.isoformat(),
        resource_id=resource,
        meta=msgspec.Raw(meta.encode()) if meta is not None else None,
        source=source,
    )


def put(
    session: Session, tenant: str, entries: Sequence[Entry], *, now: datetime | None = None
) -> Outcome:
    """Append and commit."""
    with unit_of_work(session):
        return append.append(session, tenant, entries, now=now or datetime.now(UTC))


def fold_all(session: Session, tenant: str, *, limit: int = fold.TURN) -> int:
    """Fold until nothing is left; the events taken."""
    taken = 0
    while True:
        with unit_of_work(session):
            folded = fold.fold(session, tenant, now=datetime.now(UTC), limit=limit)
        assert folded is not None, "another writer holds the tenant's lock"
        if not folded.taken:
            return taken
        taken += folded.taken


def counters(session: Session, tenant: str) -> dict[tuple[str, str, datetime], tuple[Any, ...]]:
    """(customer, metric, period start) → (sum, count, max, last, unique)."""
    rows = session.execute(
        text(
            "SELECT customer_ref, metric, period_start, sum_value, event_count, max_value,"
            " last_value, unique_count FROM counters WHERE tenant_id = :t"
        ),
        {"t": tenant},
    ).all()
    session.rollback()
    return {(r[0], r[1], r[2].astimezone(UTC)): tuple(r[3:]) for r in rows}


def computed(
    events: Iterable[tuple[str, str, datetime, str, Decimal, str | None]], *, unique: bool = False
) -> dict[tuple[str, str, datetime], tuple[Any, ...]]:
    """What the counters of these events must be, computed the plain way, in no SQL.

    events: (customer, metric, occurred_at, key, quantity, resource), each key once.
    """
    groups: dict[tuple[str, str, datetime], list[tuple[datetime, str, Decimal, str | None]]] = {}
    for customer, metric, at, key, quantity, resource in events:
        utc = at.astimezone(UTC)
        month = datetime(utc.year, utc.month, 1, tzinfo=UTC)
        groups.setdefault((customer, metric, month), []).append((utc, key, quantity, resource))
    return {
        group: (
            sum((e[2] for e in members), Decimal(0)),
            len(members),
            max(e[2] for e in members),
            max(members, key=lambda e: (e[0], e[1].encode()))[2],
            len({e[3] for e in members if e[3] is not None}) if unique else 0,
        )
        for group, members in groups.items()
    }


def scalar(session: Session, sql: str, **parameters: object) -> Any:
    """One value, read in a transaction of its own."""
    value = session.execute(text(sql), parameters).scalar()
    session.rollback()
    return value
