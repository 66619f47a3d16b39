"""In which billing period a customer's metric is at an instant, for many of them at once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from sqlalchemy.orm import Session

from metering.catalog import period_sql
from metering.catalog.period import Span
from metering.counters.doubts import Place


@dataclass(frozen=True, order=True)
class PeriodKey:
    """One counter's place: a customer's metric in a billing period."""

    customer_ref: str
    metric: str
    span: Span


@dataclass(frozen=True)
class Located:
    """Places by the period that holds them; those of closed periods apart."""

    open: dict[Place, PeriodKey]
    closed: dict[Place, PeriodKey]


_LOCATED = f"""
WITH asked AS MATERIALIZED (
    SELECT a.*, {period_sql.begun("a.customer_ref", "a.metric", "a.at")} AS begun
    FROM unnest(%(refs)s::text[], %(metrics)s::text[], %(ats)s::timestamptz[])
        AS a (customer_ref, metric, at)
)
SELECT a.customer_ref, a.metric, a.at,
       {period_sql.start("a.begun", "a.at")} AS start_at,
       {period_sql.end("a.begun", "a.customer_ref", "a.metric", "a.at")} AS end_at,
       CASE WHEN {period_sql.is_held("a.begun", "a.at")} IS TRUE
            THEN (a.begun).closed_at IS NOT NULL OR (a.begun).final_at IS NOT NULL
            ELSE EXISTS (SELECT 1 FROM periods p
                         WHERE p.tenant_id = %(tenant_id)s AND p.schedule = 'calendar'
                           AND p.start_at = {period_sql.month("a.at")}
                           AND p.closed_at IS NOT NULL) END AS is_closed
FROM asked a
"""


def locate(session: Session, tenant_id: str, places: Iterable[Place]) -> Located:
    """In which billing periods these lie as things are now."""
    found = Located({}, {})
    parameters = {"tenant_id": tenant_id} | columns(sorted(set(places)))
    for row in session.connection().exec_driver_sql(_LOCATED, parameters):
        span = Span(row.start_at.astimezone(UTC), row.end_at.astimezone(UTC))
        key = PeriodKey(row.customer_ref, row.metric, span)
        side = found.closed if row.is_closed else found.open
        side[Place(row.customer_ref, row.metric, row.at)] = key
    return found


def columns(places: Sequence[Place]) -> dict[str, Any]:
    """The places as the parameters `refs`, `metrics` and `ats`."""
    return {
        "refs": [place.customer_ref for place in places],
        "metrics": [place.metric for place in places],
        "ats": [place.at for place in places],
    }
