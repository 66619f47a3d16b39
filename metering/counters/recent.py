"""What a customer used last, event by event, found without reading the ledger through.

No index of the ledger serves a customer. The customer's segments say in which hours there was
anything, how much, and which event was each hour's last; that one is found by its key, and those
before it among what was recorded just before it. What waits and what was set aside is known by
itself. Each of these searches ends after so many rows, however busy the tenant is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from metering.counters import standing
from metering.counters.backlog import BACKLOG_SEARCHED
from metering.ledger.read import at_key

REACH = timedelta(days=92)
# How many rows of the ledger are looked at for what was recorded before the hours' last events, and
# after them; the hours that are looked at share them.
BEFORE, AFTER = 30_000, 5_000
# Of the events that were set aside, as many are looked at: those of the latest periods.
ASIDE_SEARCHED = 200


@dataclass(frozen=True)
class Recent:
    """One event, without what its sender wrote to it. status: see `standing.of_events`."""

    metric: str
    display_name: str | None
    unit: str | None
    quantity: Decimal
    occurred_at: datetime
    recorded_at: datetime
    status: str


@dataclass(frozen=True)
class _Found:
    """segment_start, event_count: of the segment that it is counted in, where that was asked."""

    idempotency_key: str
    metric: str
    display_name: str | None
    unit: str | None
    quantity: Decimal
    occurred_at: datetime
    recorded_at: datetime
    segment_start: datetime | None
    event_count: int | None


def of_customer(
    session: Session,
    tenant_id: str,
    customer_ref: str,
    metrics: Sequence[str] | None,
    *,
    now: datetime,
    most: int = 10,
) -> list[Recent]:
    """The latest events by when they occurred, none of those counted left out in between.

    metrics: only of these; None: of all.  Nothing that occurred more than `REACH` ago.
    Where more was used in an hour than the search finds, the list ends there and is shorter than
    `most`: a busy hour must not look like a quiet one.
    """
    parameters = {
        "tenant_id": tenant_id,
        "customer_ref": customer_ref,
        "metrics": None if metrics is None else list(metrics),
        "since": now - REACH,
        "most": most,
        "before": BEFORE,
        "after": AFTER,
        "waiting": BACKLOG_SEARCHED,
        "aside": ASIDE_SEARCHED,
    }
    connection = session.connection()
    connection.exec_driver_sql(_PLAN.format("'off'"))
    rows: Sequence[Any] = connection.exec_driver_sql(_RECENT, parameters).all()
    connection.exec_driver_sql(_PLAN.format("'on'"))
    found = sorted(
        (_Found(*row) for row in rows), key=lambda event: (event.occurred_at, event.idempotency_key)
    )
    statuses = standing.of_events(session, tenant_id, found)
    known_from = _known_from(found, standing.folded(session, tenant_id, found))
    latest = {
        event.idempotency_key: event
        for event in reversed(found)
        if known_from is None or event.occurred_at >= known_from
    }
    return [_recent(event, statuses) for event in list(latest.values())[:most]]


def _recent(event: _Found, statuses: dict[str, str]) -> Recent:
    return Recent(
        metric=event.metric,
        display_name=event.display_name,
        unit=event.unit,
        quantity=event.quantity,
        occurred_at=event.occurred_at.astimezone(UTC),
        recorded_at=event.recorded_at.astimezone(UTC),
        status=statuses[event.idempotency_key],
    )


def _known_from(found: Sequence[_Found], folded: set[str]) -> datetime | None:
    """From when on everything folded was found; None: all of it was.

    Of an hour of which some was not found, what came before the earliest found is not known.
    """
    hours: dict[tuple[str, datetime, int], list[_Found]] = {}
    for event in found:
        if event.segment_start is not None and event.event_count is not None:
            hour = (event.metric, event.segment_start, event.event_count)
            hours.setdefault(hour, []).append(event)
    cut = []
    for (_, _, count), events in hours.items():
        known = [event for event in events if event.idempotency_key in folded]
        if len(known) < count:
            cut.append(min(event.occurred_at for event in events))
    return max(cut, default=None)


# The order of the ledger's indexes is to be followed, not sorted for: after so many rows a search
# ends, and a plan that sorts would have read them all by then.
_PLAN = "SELECT set_config('enable_sort', {0}, true), set_config('enable_bitmapscan', {0}, true)"

# An hour is looked at only where the hours after it held fewer events than are wanted.
# `recorded_at` finds what was told with an hour's last event, before it or soon after.
_EVENT = "idempotency_key, metric, quantity, occurred_at, recorded_at"
_RECENT = f"""
WITH named AS MATERIALIZED (
    SELECT metric FROM metrics
    WHERE tenant_id = %(tenant_id)s
      AND (%(metrics)s::text[] IS NULL OR metric = ANY(%(metrics)s))
), latest AS MATERIALIZED (
    SELECT s.*, least(s.hour + interval '1 hour',
                      lead(s.segment_start) OVER (PARTITION BY s.metric ORDER BY s.segment_start))
               AS until
    FROM (
        SELECT s.*, date_trunc('hour', s.segment_start AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
                   AS hour
        FROM named
        CROSS JOIN LATERAL (
            SELECT metric, segment_start, event_count, last_occurred_at, last_key FROM segments
            WHERE tenant_id = %(tenant_id)s AND customer_ref = %(customer_ref)s
              AND metric = named.metric AND segment_start >= %(since)s
            ORDER BY segment_start DESC LIMIT %(most)s
        ) AS s
        ORDER BY s.last_occurred_at DESC LIMIT %(most)s
    ) AS s
), ends AS MATERIALIZED (
    SELECT l.segment_start, l.until, l.event_count, e.*
    FROM latest l
    CROSS JOIN LATERAL (
        SELECT {_EVENT} FROM events
        WHERE tenant_id = %(tenant_id)s AND {at_key("l.last_key")}
    ) AS e
    WHERE coalesce((SELECT sum(after.event_count) FROM latest after
                    WHERE after.segment_start >= l.until), 0) < %(most)s
), shared AS MATERIALIZED (
    SELECT greatest(count(*), 1) FROM ends WHERE event_count > 1
), waiting AS MATERIALIZED (
    SELECT idempotency_key FROM unfolded WHERE tenant_id = %(tenant_id)s
    ORDER BY recorded_at LIMIT %(waiting)s
), aside AS MATERIALIZED (
    SELECT s.idempotency_key
    FROM named
    CROSS JOIN LATERAL (
        SELECT idempotency_key, period_start FROM set_aside
        WHERE tenant_id = %(tenant_id)s AND customer_ref = %(customer_ref)s
          AND metric = named.metric
        ORDER BY period_start DESC LIMIT %(aside)s
    ) AS s
    ORDER BY s.period_start DESC LIMIT %(aside)s
), found AS (
    SELECT {_EVENT}, segment_start, event_count FROM ends
    UNION
    SELECT near.*, ends.segment_start, ends.event_count
    FROM ends
    CROSS JOIN LATERAL (
        SELECT {_EVENT}
        FROM (
            (SELECT {_EVENT}, customer_ref FROM events
             WHERE tenant_id = %(tenant_id)s AND recorded_at <= ends.recorded_at
             ORDER BY recorded_at DESC LIMIT %(before)s / (TABLE shared))
            UNION ALL
            (SELECT {_EVENT}, customer_ref FROM events
             WHERE tenant_id = %(tenant_id)s AND recorded_at > ends.recorded_at
             ORDER BY recorded_at LIMIT %(after)s / (TABLE shared))
        ) AS beside
        WHERE customer_ref = %(customer_ref)s AND metric = ends.metric
          AND occurred_at >= ends.segment_start AND occurred_at < ends.until
        ORDER BY occurred_at DESC, idempotency_key DESC LIMIT %(most)s
    ) AS near
    WHERE ends.event_count > 1
    UNION
    SELECT e.idempotency_key, e.metric, e.quantity, e.occurred_at, e.recorded_at, NULL, NULL
    FROM (TABLE waiting UNION TABLE aside) AS keys
    CROSS JOIN LATERAL (
        SELECT {_EVENT}, customer_ref FROM events
        WHERE tenant_id = %(tenant_id)s AND {at_key("keys.idempotency_key")}
    ) AS e
    WHERE e.customer_ref = %(customer_ref)s AND e.occurred_at >= %(since)s
      AND (%(metrics)s::text[] IS NULL OR e.metric = ANY(%(metrics)s))
)
SELECT f.idempotency_key, f.metric, m.display_name, m.unit, f.quantity, f.occurred_at,
       f.recorded_at, f.segment_start, f.event_count
FROM found f
LEFT JOIN metrics m ON m.tenant_id = %(tenant_id)s AND m.metric = f.metric
"""
