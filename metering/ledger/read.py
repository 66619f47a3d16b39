"""Read a slice of the ledger, page by page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, text
from sqlalchemy.orm import Session

from metering.errors import InvalidInputError
from metering.ledger.models import Event

# No index serves a customer or an event time: such a slice is read through the BRIN index, and
# only so much of it at a time.
MOST_BY_TIME = timedelta(days=31)
COUNTED_TO = 10_000


def at_key(key: str) -> str:
    """SQL, the end of a SELECT from `events` of one tenant: the event with this key, by its key.

    The order asks for the one index that has it. By an equality alone the planner may take any of
    the tenant's: of one that it has not heard of yet it expects an event or two, and then would
    read all there are for each key (300,000 rows of a new tenant, for one).
    """
    return f"idempotency_key >= {key} AND idempotency_key <= {key} ORDER BY idempotency_key LIMIT 1"


def one(session: Session, tenant_id: str, key: str) -> Event | None:
    """The event with this key, found as `at_key` says; None where the ledger has none."""
    return session.scalar(
        select(Event)
        .where(
            Event.tenant_id == tenant_id,
            Event.idempotency_key >= key,
            Event.idempotency_key <= key,
        )
        .order_by(Event.idempotency_key)
        .limit(1)
    )


_BY_KEYS = f"""
SELECT e.* FROM unnest(CAST(:keys AS text[])) AS asked (key)
CROSS JOIN LATERAL (
    SELECT * FROM events WHERE tenant_id = :tenant_id AND {at_key("asked.key")}
) AS e
"""


def by_keys(session: Session, tenant_id: str, keys: Sequence[str]) -> dict[str, Event]:
    """The events with these keys, each found as `at_key` says; what the ledger has not is left
    out."""
    statement = select(Event).from_statement(text(_BY_KEYS))
    found = session.scalars(statement, {"tenant_id": tenant_id, "keys": list(keys)})
    return {event.idempotency_key: event for event in found}


@dataclass(frozen=True)
class Slice:
    """Which events, in which order. Instants are event times, `[start_at, end_at)`.

    after: (instant, key) of the last event of the page before.
    """

    tenant_id: str
    metric: str | None = None
    customer_ref: str | None = None
    source: str | None = None
    resource_id: str | None = None
    start_at: datetime | None = None
    end_at: datetime | None = None
    by_event_time: bool = False
    descending: bool = True
    after: tuple[datetime, str] | None = None
    offset: int = 0
    limit: int = 25


@dataclass(frozen=True)
class Page:
    """A page of events; `total` is exact up to 10,000 and a lower bound beyond."""

    events: Sequence[Event]
    total: int
    total_is_lower_bound: bool
    next_after: tuple[datetime, str] | None


def page(session: Session, wanted: Slice) -> Page:
    """Read one page. Raises InvalidInputError for a span that no index could serve."""
    if wanted.by_event_time or wanted.customer_ref is not None:
        _check_span(wanted)
    matching = _filters(wanted)
    counted = session.scalar(
        select(func.count()).select_from(
            select(Event.tenant_id).where(*matching).limit(COUNTED_TO + 1).subquery()
        )
    )
    found: Sequence[Event] = session.scalars(_ordered(wanted, matching)).all()
    events = found[: wanted.limit]
    more = len(found) > wanted.limit
    return Page(
        events=events,
        total=min(counted or 0, COUNTED_TO),
        total_is_lower_bound=(counted or 0) > COUNTED_TO,
        next_after=_place(wanted, events[-1]) if more and events else None,
    )


def _check_span(wanted: Slice) -> None:
    if wanted.start_at is None or wanted.end_at is None:
        raise InvalidInputError(
            "give startTime and endTime to read by customer or by event time", pointer="/startTime"
        )
    if wanted.end_at - wanted.start_at > MOST_BY_TIME:
        raise InvalidInputError(
            "by customer or by event time, ask for at most 31 days at once", pointer="/endTime"
        )


def _filters(wanted: Slice) -> list[ColumnElement[bool]]:
    equal = {
        Event.tenant_id: wanted.tenant_id,
        Event.metric: wanted.metric,
        Event.customer_ref: wanted.customer_ref,
        Event.source: wanted.source,
        Event.resource_id: wanted.resource_id,
    }
    filters = [column == value for column, value in equal.items() if value is not None]
    if wanted.start_at is not None:
        filters.append(Event.occurred_at >= wanted.start_at)
    if wanted.end_at is not None:
        filters.append(Event.occurred_at < wanted.end_at)
    return filters


def _ordered(wanted: Slice, matching: list[ColumnElement[bool]]) -> Select[Event]:
    instant = Event.occurred_at if wanted.by_event_time else Event.recorded_at
    order = [instant, Event.idempotency_key]
    statement = select(Event).where(*matching)
    if wanted.after is not None:
        at, key = wanted.after
        beyond = instant < at if wanted.descending else instant > at
        beside = Event.idempotency_key < key if wanted.descending else Event.idempotency_key > key
        statement = statement.where(or_(beyond, and_(instant == at, beside)))
        # The bare bound lets the index start where the page does.
        statement = statement.where(instant <= at if wanted.descending else instant >= at)
    return (
        statement.order_by(*(c.desc() if wanted.descending else c.asc() for c in order))
        .offset(wanted.offset)
        .limit(wanted.limit + 1)
    )


def _place(wanted: Slice, event: Event) -> tuple[datetime, str]:
    instant = event.occurred_at if wanted.by_event_time else event.recorded_at
    return instant, event.idempotency_key
