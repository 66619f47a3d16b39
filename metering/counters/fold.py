"""Fold the ledger's new events into counters, each exactly once.

One statement takes the oldest unfolded rows of a tenant and writes everything that follows
from them; whatever crashes, either all of it happened or none. The tenant's lock, taken first,
keeps replay, closing and other folds out.
"""

import time
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from metering.catalog import period_sql
from metering.counters import carried, proposals
from metering.counters.aggregation import RESOURCE_KEY
from metering.counters.destined import DESTINATIONS
from metering.database import blames_the_data, sqlstate
from metering.tenancy import locks

# Rows a transaction takes: large enough to share its fixed cost, small enough to end well
# within the second that a tenant may stay locked.
TURN = 10_000


@dataclass(frozen=True)
class Folded:
    """What one fold did, in events. `taken` = counted + set aside + dead letters."""

    taken: int = 0
    set_aside: int = 0
    dead_letters: int = 0
    reaggregations: int = 0


# What a corrected row `c` becomes with what is added to it. It may hold nothing that counts.
_LATER = """CASE WHEN c.last_key IS NULL
            OR ({new}.last_occurred_at, {new}.last_key) > (c.last_occurred_at, c.last_key)
            THEN {new}.{column} ELSE c.{column} END"""
_ADDED = f"""
        event_count = c.event_count + {{new}}.event_count,
        sum_value = c.sum_value + {{new}}.sum_value,
        max_value = greatest(c.max_value, {{new}}.max_value),
        last_value = {_LATER.format(new="{new}", column="last_value")},
        last_key = {_LATER.format(new="{new}", column="last_key")},
        last_occurred_at = greatest(c.last_occurred_at, {{new}}.last_occurred_at)"""
# Asked once a fold: a tenant of which nobody has decided anything pays for one look.
_CORRECTED = "EXISTS (SELECT 1 FROM corrected_counters WHERE tenant_id = %(tenant_id)s)"

# What is counted into a period of which something was decided is added to the corrected rows too:
# an event that is folded is neither set aside nor void, and adding is exact for all aggregates.
# `taken` deletes by ctid from an ARRAY(): the LIMIT is evaluated once, which IN (SELECT … LIMIT)
# does not promise. `judged` decides lateness from the period and the event alone, so that the
# order of folding cannot matter. Parts are put together by UNION ALL and grouping, never by joins:
# the planner takes each part for a row and would join ten thousand of them in nested loops. LATERAL
# with OFFSET 0 ties every other table to its primary key: a plan made while the tables were small
# would otherwise read them whole, once for each event, long after they have grown.
_FOLD = f"""
WITH taken AS (
    DELETE FROM unfolded
    WHERE tenant_id = %(tenant_id)s AND ctid = ANY (ARRAY(
        SELECT ctid FROM unfolded WHERE tenant_id = %(tenant_id)s
        ORDER BY recorded_at, idempotency_key LIMIT %(limit)s))
    RETURNING idempotency_key, late
), dated AS MATERIALIZED (
    SELECT e.*, taken.late AS chosen, {period_sql.month("e.occurred_at")} AS month,
           {period_sql.begun("e.customer_ref", "e.metric", "e.occurred_at")} AS begun
    FROM taken
    CROSS JOIN LATERAL (
        SELECT idempotency_key, metric, customer_ref, resource_id, quantity, occurred_at,
               recorded_at
        FROM events
        WHERE tenant_id = %(tenant_id)s AND idempotency_key = taken.idempotency_key OFFSET 0
    ) AS e
), judged AS MATERIALIZED (
    SELECT d.idempotency_key, d.metric, d.customer_ref, d.resource_id, d.quantity, d.occurred_at,
           p.is_held, d.month, p.start_at AS period_start,
           {period_sql.end("d.begun", "d.customer_ref", "d.metric", "d.occurred_at")}
               AS period_end,
           greatest(date_trunc('hour', d.occurred_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC',
                    p.start_at) AS segment_start,
           coalesce(m.unique_enabled, false) AS unique_enabled,
           CASE
               WHEN known.is_closed THEN 'period_closed'
               WHEN d.recorded_at >= known.closes_at THEN 'after_closing'
               WHEN d.recorded_at - d.occurred_at
                    <= make_interval(secs => coalesce(m.lateness_seconds, (
                        SELECT lateness_seconds FROM tenants
                        WHERE tenant_id = %(tenant_id)s))) THEN NULL
               WHEN d.chosen = 'set_aside' THEN 'backfill'
               WHEN m.late_policy = 'age' AND d.chosen IS NULL THEN 'older_than_window'
           END AS late
    FROM dated d
    CROSS JOIN LATERAL (
        SELECT {period_sql.is_held("d.begun", "d.occurred_at")} IS TRUE AS is_held,
               {period_sql.start("d.begun", "d.occurred_at")} AS start_at
    ) p
    LEFT JOIN LATERAL (
        SELECT unique_enabled, late_policy, lateness_seconds FROM metrics
        WHERE tenant_id = %(tenant_id)s AND metric = d.metric OFFSET 0
    ) AS m ON true
    LEFT JOIN LATERAL (
        SELECT closes_at, closed_at FROM periods
        WHERE tenant_id = %(tenant_id)s AND schedule = 'calendar' AND start_at = d.month
        OFFSET 0
    ) AS calendar ON NOT p.is_held
    CROSS JOIN LATERAL (
        SELECT CASE WHEN p.is_held THEN (d.begun).closes_at ELSE calendar.closes_at END
                   AS closes_at,
               CASE WHEN p.is_held
                    THEN (d.begun).closed_at IS NOT NULL OR (d.begun).final_at IS NOT NULL
                    ELSE calendar.closed_at IS NOT NULL END AS is_closed
    ) AS known
), first_seen_metrics AS (
    INSERT INTO metrics (tenant_id, metric, lateness_seconds, created_at)
    SELECT DISTINCT %(tenant_id)s, metric,
           (SELECT lateness_seconds FROM tenants WHERE tenant_id = %(tenant_id)s),
           %(now)s::timestamptz
    FROM judged
    ON CONFLICT DO NOTHING
), first_seen_periods AS (
    INSERT INTO periods (tenant_id, schedule, start_at, end_at)
    SELECT DISTINCT %(tenant_id)s, 'calendar', month, {period_sql.month_after("month")}
    FROM judged WHERE NOT is_held
    ON CONFLICT DO NOTHING
), put_aside AS (
    INSERT INTO set_aside (tenant_id, customer_ref, metric, idempotency_key, period_start,
                           quantity, reason, set_aside_at)
    SELECT %(tenant_id)s, customer_ref, metric, idempotency_key, period_start,
           quantity, late, %(now)s
    FROM judged WHERE late IS NOT NULL
), members AS (
    INSERT INTO unique_members (tenant_id, customer_ref, metric, period_start, resource_key)
    SELECT DISTINCT %(tenant_id)s, customer_ref, metric, period_start,
           {RESOURCE_KEY.format(resource_id="resource_id")}
    FROM judged WHERE unique_enabled AND resource_id IS NOT NULL AND late IS NULL
    ORDER BY 2, 3, 4, 5
    ON CONFLICT DO NOTHING
    RETURNING customer_ref, metric, period_start
), hours AS MATERIALIZED (
    SELECT customer_ref, metric, segment_start, period_start, period_end,
           count(*) AS event_count, sum(quantity) AS sum_value, max(quantity) AS max_value,
           (array_agg(quantity ORDER BY occurred_at DESC, idempotency_key DESC))[1] AS last_value,
           max(occurred_at) AS last_occurred_at,
           (array_agg(idempotency_key ORDER BY occurred_at DESC, idempotency_key DESC))[1]
               AS last_key
    FROM judged WHERE late IS NULL
    GROUP BY 1, 2, 3, 4, 5
), behind AS MATERIALIZED (
    SELECT j.customer_ref, j.metric, j.period_start
    FROM judged j
    CROSS JOIN LATERAL (
        SELECT watermark FROM counters
        WHERE tenant_id = %(tenant_id)s AND customer_ref = j.customer_ref
          AND metric = j.metric AND period_start = j.period_start
        OFFSET 0
    ) AS c
    WHERE j.late IS NULL AND j.occurred_at < c.watermark
), spans AS (
    SELECT customer_ref, metric, period_start, max(period_end) AS period_end,
           sum(event_count) AS event_count, sum(sum_value) AS sum_value,
           max(max_value) AS max_value,
           (array_agg(last_value ORDER BY segment_start DESC NULLS LAST))[1] AS last_value,
           max(last_occurred_at) AS last_occurred_at,
           (array_agg(last_key ORDER BY segment_start DESC NULLS LAST))[1] AS last_key,
           sum(new_members) AS new_members, sum(behind) AS behind
    FROM (
        SELECT customer_ref, metric, period_start, period_end, segment_start, event_count,
               sum_value, max_value, last_value, last_occurred_at, last_key,
               0 AS new_members, 0 AS behind
        FROM hours
        UNION ALL
        SELECT customer_ref, metric, period_start, NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, 1, 0
        FROM members
        UNION ALL
        SELECT customer_ref, metric, period_start, NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, 0, 1
        FROM behind
    ) AS part
    GROUP BY 1, 2, 3
), destinations AS MATERIALIZED ({DESTINATIONS}), unsent_segments AS (
    INSERT INTO unsent (tenant_id, mode, customer_ref, metric, segment_start, changed_at, due_at)
    SELECT %(tenant_id)s, d.mode, h.customer_ref, h.metric, h.segment_start, %(now)s,
           greatest(%(now)s::timestamptz, h.segment_start)
    FROM destinations d JOIN hours h ON h.metric = d.metric
    ORDER BY 2, 3, 4, 5
    -- An update, so that the row is locked: whoever looks at it must wait for these numbers.
    ON CONFLICT (tenant_id, mode, customer_ref, metric, segment_start)
        DO UPDATE SET changed_at = excluded.changed_at
), written_segments AS (
    INSERT INTO segments (tenant_id, customer_ref, metric, segment_start, event_count,
                          sum_value, max_value, last_value, last_occurred_at, last_key)
    SELECT %(tenant_id)s, customer_ref, metric, segment_start, event_count,
           sum_value, max_value, last_value, last_occurred_at, last_key
    FROM hours ORDER BY customer_ref, metric, segment_start
    ON CONFLICT (tenant_id, customer_ref, metric, segment_start) DO UPDATE SET
        event_count = segments.event_count + excluded.event_count,
        sum_value = segments.sum_value + excluded.sum_value,
        max_value = greatest(segments.max_value, excluded.max_value),
        last_value = CASE WHEN (excluded.last_occurred_at, excluded.last_key)
            > (segments.last_occurred_at, segments.last_key)
            THEN excluded.last_value ELSE segments.last_value END,
        last_key = CASE WHEN (excluded.last_occurred_at, excluded.last_key)
            > (segments.last_occurred_at, segments.last_key)
            THEN excluded.last_key ELSE segments.last_key END,
        last_occurred_at = greatest(segments.last_occurred_at, excluded.last_occurred_at)
), written_counters AS (
    INSERT INTO counters (tenant_id, customer_ref, metric, period_start, period_end, event_count,
                          sum_value, max_value, last_value, last_occurred_at, last_key,
                          unique_count, watermark, reaggregations, folded_at)
    SELECT %(tenant_id)s, customer_ref, metric, period_start, period_end, event_count,
           sum_value, max_value, last_value, last_occurred_at, last_key,
           new_members, last_occurred_at, behind, %(now)s
    FROM spans ORDER BY customer_ref, metric, period_start
    ON CONFLICT (tenant_id, customer_ref, metric, period_start) DO UPDATE SET
        event_count = counters.event_count + excluded.event_count,
        sum_value = counters.sum_value + excluded.sum_value,
        max_value = greatest(counters.max_value, excluded.max_value),
        last_value = CASE WHEN (excluded.last_occurred_at, excluded.last_key)
            > (counters.last_occurred_at, counters.last_key)
            THEN excluded.last_value ELSE counters.last_value END,
        last_key = CASE WHEN (excluded.last_occurred_at, excluded.last_key)
            > (counters.last_occurred_at, counters.last_key)
            THEN excluded.last_key ELSE counters.last_key END,
        last_occurred_at = greatest(counters.last_occurred_at, excluded.last_occurred_at),
        unique_count = counters.unique_count + excluded.unique_count,
        watermark = greatest(counters.watermark, excluded.watermark),
        reaggregations = counters.reaggregations + excluded.reaggregations,
        folded_at = excluded.folded_at
), corrected_hours AS (
    UPDATE corrected_segments c SET {_ADDED.format(new="h")}
    FROM hours h
    WHERE {_CORRECTED} AND c.tenant_id = %(tenant_id)s AND c.customer_ref = h.customer_ref
      AND c.metric = h.metric AND c.segment_start = h.segment_start
), corrected_spans AS (
    UPDATE corrected_counters c SET {_ADDED.format(new="s")}
    FROM spans s
    WHERE {_CORRECTED} AND c.tenant_id = %(tenant_id)s AND c.customer_ref = s.customer_ref
      AND c.metric = s.metric AND c.period_start = s.period_start AND s.event_count > 0
), corrected_sets AS (
    -- Whatever was decided of a resource: now a counted event names it, and it is a member.
    DELETE FROM corrected_members c
    USING (SELECT DISTINCT customer_ref, metric, period_start,
                  {RESOURCE_KEY.format(resource_id="resource_id")} AS resource_key
           FROM judged WHERE unique_enabled AND resource_id IS NOT NULL AND late IS NULL) AS j
    WHERE {_CORRECTED} AND c.tenant_id = %(tenant_id)s AND c.customer_ref = j.customer_ref
      AND c.metric = j.metric AND c.period_start = j.period_start
      AND c.resource_key = j.resource_key
)
SELECT (SELECT count(*) FROM taken),
       (SELECT count(*) FROM judged WHERE late IS NOT NULL),
       (SELECT count(*) FROM behind)
"""

# The oldest row, the same one that a fold of one row would take.
_BURY = """
WITH taken AS (
    DELETE FROM unfolded
    WHERE tenant_id = %(tenant_id)s AND ctid = ANY (ARRAY(
        SELECT ctid FROM unfolded WHERE tenant_id = %(tenant_id)s
        ORDER BY recorded_at, idempotency_key LIMIT 1))
    RETURNING idempotency_key, late
)
INSERT INTO dead_letters (tenant_id, idempotency_key, error, failed_at, late)
SELECT %(tenant_id)s, idempotency_key, %(error)s, %(now)s, late FROM taken
"""

# A fold that a crash takes back leaves its rows unfolded, to be folded again: the one kind of
# commit that need not wait for the disk. Compiling such a statement costs more than running it.
_SETTINGS = """
SELECT set_config('jit', 'off', true), set_config('plan_cache_mode', 'force_custom_plan', true)
"""
_MAY_BE_TAKEN_BACK = "SELECT set_config('synchronous_commit', 'off', true)"


def fold(
    session: Session,
    tenant_id: str,
    *,
    now: datetime,
    limit: int = TURN,
    is_alone: bool = True,
) -> Folded | None:
    """Fold up to `limit` of a tenant's oldest unfolded events.

    is_alone: False where the transaction does something else besides, which must not be taken
              back by a crash once it was answered: its commit then waits for the disk.

    Returns: what was done (`taken` 0: nothing was left), or None if another writer holds the
             tenant's lock.
    A fold that the database refuses twice is halved, down to the row that is to blame, which
    becomes a dead letter; the caller simply folds on.
    """
    started = time.perf_counter()
    if not locks.try_lock(session, tenant_id):
        return None
    session.connection().exec_driver_sql(_SETTINGS)
    if is_alone:
        session.connection().exec_driver_sql(_MAY_BE_TAKEN_BACK)
    folded = _fold_or_bury(session, tenant_id, limit, now)
    if folded.set_aside:
        proposals.propose(session, tenant_id, now=now)
    if folded.taken > folded.set_aside + folded.dead_letters:
        carried.follow(session, tenant_id, now=now)
    if folded.taken:
        locks.add_totals(
            session,
            tenant_id,
            folded=folded.taken - folded.set_aside - folded.dead_letters,
            set_aside=folded.set_aside,
            dead_letters=folded.dead_letters,
            reaggregations=folded.reaggregations,
            seconds=time.perf_counter() - started,
        )
    return folded


def _fold_or_bury(session: Session, tenant_id: str, limit: int, now: datetime) -> Folded:
    refusals = 0
    while True:
        try:
            with session.begin_nested():
                return _fold_rows(session, tenant_id, limit, now)
        except DBAPIError as error:
            if not blames_the_data(error):
                raise
            refusals += 1
            if refusals < 2:
                continue
            if limit == 1:
                return _bury_oldest(session, tenant_id, error, now)
            limit //= 2


def _fold_rows(session: Session, tenant_id: str, limit: int, now: datetime) -> Folded:
    parameters = {"tenant_id": tenant_id, "limit": limit, "now": now}
    row = session.connection().exec_driver_sql(_FOLD, parameters).one()
    taken, set_aside, reaggregations = row
    return Folded(taken=taken, set_aside=set_aside, reaggregations=reaggregations)


def _bury_oldest(session: Session, tenant_id: str, error: DBAPIError, now: datetime) -> Folded:
    reason = f"{sqlstate(error)}: {str(error.orig).strip().partition(chr(10))[0]}"
    parameters = {"tenant_id": tenant_id, "error": reason, "now": now}
    buried = session.connection().exec_driver_sql(_BURY, parameters).rowcount
    return Folded(taken=buried, dead_letters=buried)
