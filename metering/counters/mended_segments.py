"""Segments as the ledger has them. The caller holds the tenant's lock."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from metering.catalog import period_sql
from metering.catalog.period import hour_of
from metering.counters.aggregation import IS_FOLDED, OF_EVENTS
from metering.counters.doubts import Place, hour
from metering.counters.located import columns
from metering.database import plan_as_sets, plan_as_usual

HOUR = timedelta(hours=1)
# Hours of the ledger that lie so near each other are read at once, with those between them.
_NEAR = timedelta(hours=6)

# Only these hours of these customers' metrics, so that a period may be looked up for each event.
# IS TRUE keeps the planner from a join, of which it might hash the side of all events.
_SEGMENTS = f"""
WITH wanted AS MATERIALIZED (
    SELECT w.*, {hour("w.at")} AS hour
    FROM unnest(%(refs)s::text[], %(metrics)s::text[], %(ats)s::timestamptz[])
        AS w (customer_ref, metric, at)
), hours AS MATERIALIZED (
    SELECT DISTINCT customer_ref, metric, hour FROM wanted
), folded AS MATERIALIZED (
    SELECT e.idempotency_key, e.customer_ref, e.metric, e.quantity, e.occurred_at,
           {period_sql.begun("e.customer_ref", "e.metric", "e.occurred_at")} AS begun
    FROM events e
    WHERE e.tenant_id = %(tenant_id)s
      AND e.occurred_at >= %(start_at)s AND e.occurred_at < %(end_at)s
      AND ((e.customer_ref, e.metric, {hour("e.occurred_at")})
           IN (SELECT customer_ref, metric, hour FROM hours)) IS TRUE
      AND {IS_FOLDED}
), cut AS MATERIALIZED (
    SELECT f.*, greatest({hour("f.occurred_at")}, {period_sql.start("f.begun", "f.occurred_at")})
               AS segment_start
    FROM folded f
), computed AS MATERIALIZED (
    SELECT e.customer_ref, e.metric, e.segment_start, {OF_EVENTS}
    FROM cut e
    JOIN wanted w ON w.customer_ref = e.customer_ref AND w.metric = e.metric
        AND w.at = e.segment_start
    GROUP BY 1, 2, 3
)
SELECT * FROM computed
"""
# Each row by its key, whatever the planner believes of the table.
_SEGMENTS_GONE = """
DELETE FROM segments WHERE tenant_id = %(tenant_id)s AND ctid = ANY (ARRAY(
    SELECT s.ctid
    FROM unnest(%(refs)s::text[], %(metrics)s::text[], %(ats)s::timestamptz[])
        AS w (customer_ref, metric, at)
    CROSS JOIN LATERAL (
        SELECT ctid FROM segments
        WHERE tenant_id = %(tenant_id)s AND customer_ref = w.customer_ref
          AND metric = w.metric AND segment_start = w.at
        OFFSET 0
    ) AS s))
RETURNING customer_ref, metric, segment_start
"""
_SEGMENTS_WRITTEN = """
INSERT INTO segments AS s (tenant_id, customer_ref, metric, segment_start, event_count,
                           sum_value, max_value, last_value, last_occurred_at, last_key)
SELECT %(tenant_id)s, c.*
FROM unnest(%(refs)s::text[], %(metrics)s::text[], %(ats)s::timestamptz[],
            %(event_count)s::bigint[], %(sum_value)s::numeric[], %(max_value)s::numeric[],
            %(last_value)s::numeric[], %(last_occurred_at)s::timestamptz[], %(last_key)s::text[])
    AS c (customer_ref, metric, segment_start)
ORDER BY 2, 3, 4
ON CONFLICT (tenant_id, customer_ref, metric, segment_start) DO UPDATE SET
    event_count = excluded.event_count, sum_value = excluded.sum_value,
    max_value = excluded.max_value, last_value = excluded.last_value,
    last_occurred_at = excluded.last_occurred_at, last_key = excluded.last_key
WHERE (s.event_count, s.sum_value, s.max_value, s.last_value, s.last_occurred_at, s.last_key)
    IS DISTINCT FROM (excluded.event_count, excluded.sum_value, excluded.max_value,
        excluded.last_value, excluded.last_occurred_at, excluded.last_key)
RETURNING s.customer_ref, s.metric, s.segment_start
"""
_AGGREGATES = (
    "event_count", "sum_value", "max_value", "last_value", "last_occurred_at", "last_key",
)  # fmt: skip


def mend(session: Session, tenant_id: str, places: Iterable[Place]) -> list[Place]:
    """Write these hours anew from the ledger, where they differ. Returns: those that did."""
    done: list[Place] = []
    for near in _neighbours(places):
        parameters = {
            "tenant_id": tenant_id,
            "start_at": hour_of(near[0].at),
            "end_at": hour_of(near[-1].at) + HOUR,
            **columns(near),
        }
        plan_as_sets(session)
        computed = {
            Place(row.customer_ref, row.metric, row.segment_start): row
            for row in session.connection().exec_driver_sql(_SEGMENTS, parameters)
        }
        plan_as_usual(session)
        done += _write(session, tenant_id, near, computed)
    return done


def _write(
    session: Session,
    tenant_id: str,
    near: Sequence[Place],
    computed: Mapping[Place, Any],
) -> list[Place]:
    connection = session.connection()
    gone = {"tenant_id": tenant_id} | columns([p for p in near if p not in computed])
    rows = connection.exec_driver_sql(_SEGMENTS_GONE, gone).all()
    written = {"tenant_id": tenant_id} | columns(list(computed))
    for name in _AGGREGATES:
        written[name] = [getattr(row, name) for row in computed.values()]
    rows = [*rows, *connection.exec_driver_sql(_SEGMENTS_WRITTEN, written)]
    return [Place(*row) for row in rows]


def _neighbours(places: Iterable[Place]) -> list[list[Place]]:
    """By time, parted where nothing is doubted for hours: the ledger is read only where it is."""
    parts: list[list[Place]] = []
    for place in sorted(set(places), key=lambda each: each.at):
        if parts and place.at - parts[-1][-1].at <= _NEAR:
            parts[-1].append(place)
        else:
            parts.append([place])
    return parts
