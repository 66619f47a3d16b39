"""The billing periods that adjustments are of, and those into which they were carried."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from metering.catalog import period_sql
from metering.catalog.period import Span
from metering.counters.calendar import State, state_of
from metering.counters.models import Adjustment


@dataclass(frozen=True)
class Place:
    """A billing period of a customer's metric.

    state: see `calendar.state_of`.
    closes_at: None: not known yet, or never.  final_at: since when its invoice bills nothing more.
    """

    span: Span
    state: State
    closes_at: datetime | None = None
    closed_at: datetime | None = None
    invoice_id: str | None = None
    final_at: datetime | None = None


@dataclass(frozen=True)
class Bounds:
    """own: the period that it is of.  carried: the later one in which it counts, if it does."""

    own: Place
    carried: Place | None


def of_adjustments(
    session: Session, tenant_id: str, adjustments: Sequence[Adjustment], *, now: datetime
) -> dict[str, Bounds]:
    """By id; two statements for all of them."""
    own = places(session, tenant_id, [_asked(one, one.period_start) for one in adjustments], now)
    moved = [one for one in adjustments if one.disposition == "carry_forward" and one.segment_start]
    instants = [_asked(one, one.segment_start or now) for one in moved]
    found = places(session, tenant_id, instants, now)
    carried = dict(zip((one.adjustment_id for one in moved), found, strict=True))
    return {
        one.adjustment_id: Bounds(place, carried.get(one.adjustment_id))
        for one, place in zip(adjustments, own, strict=True)
    }


def places(
    session: Session,
    tenant_id: str,
    asked: Sequence[tuple[str, str, datetime]],
    now: datetime,
) -> list[Place]:
    """The periods that hold instants, in the order asked.  asked: (customer, metric, instant)."""
    if not asked:
        return []
    parameters = {
        "tenant_id": tenant_id,
        "refs": [ref for ref, _, _ in asked],
        "metrics": [metric for _, metric, _ in asked],
        "instants": [instant for _, _, instant in asked],
    }
    rows = session.connection().exec_driver_sql(_PLACES, parameters)
    return [_place(row, now) for row in rows]


def _asked(one: Adjustment, instant: datetime) -> tuple[str, str, datetime]:
    return one.customer_ref, one.metric, instant


def _place(row: Any, now: datetime) -> Place:
    span = Span(row.start_at.astimezone(UTC), row.end_at.astimezone(UTC))
    state = state_of(span, row.closed_at or row.final_at, now=now)
    return Place(span, state, row.closes_at, row.closed_at, row.invoice_id, row.final_at)


_PLACES = f"""
WITH asked AS MATERIALIZED (
    SELECT a.*, {period_sql.begun("a.customer_ref", "a.metric", "a.instant")} AS begun
    FROM unnest(%(refs)s::text[], %(metrics)s::text[], %(instants)s::timestamptz[])
        WITH ORDINALITY AS a (customer_ref, metric, instant, place)
), drawn AS MATERIALIZED (
    SELECT a.place, a.begun, {period_sql.start("a.begun", "a.instant")} AS start_at,
           {period_sql.end("a.begun", "a.customer_ref", "a.metric", "a.instant")} AS end_at,
           {period_sql.is_held("a.begun", "a.instant")} IS TRUE AS is_held
    FROM asked a
)
SELECT start_at, end_at,
       CASE WHEN is_held THEN (begun).closes_at END AS closes_at,
       CASE WHEN is_held THEN (begun).closed_at END AS closed_at,
       CASE WHEN is_held THEN (begun).invoice_id END AS invoice_id,
       CASE WHEN is_held THEN (begun).final_at END AS final_at
FROM drawn ORDER BY place
"""
