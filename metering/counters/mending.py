"""Make segments, counters and members what the ledger says, under the tenant's lock.

What is computed is `ledger - unfolded - set aside - dead letters`: an event that is still waiting
is left to the fold, so that nothing is counted twice or lost. Nothing that was set aside is judged
again, and a closed period is never touched.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from metering.catalog import period_sql
from metering.catalog.period import Span, hour_of
from metering.counters import corrections, unsent_marks
from metering.counters.aggregation import IS_FOLDED, OF_EVENTS, RESOURCE_KEY
from metering.counters.doubts import Place, hour
from metering.counters.doubts_members import Member
from metering.database import plan_as_sets, plan_as_usual
from metering.tenancy import locks

HOUR = timedelta(hours=1)
NOT_ASKED = datetime(2100, 1, 1, tzinfo=UTC)
# Hours of the ledger that lie so near each other are read at once, with those between them.
_NEAR = timedelta(hours=6)
# How long after its recorded_at an event may still appear: longer than any transaction lasts.
_APPEARS = timedelta(minutes=5)


@dataclass(frozen=True)
class Doubts:
    """What is to be looked at again. counters: instants within their periods.

    asked_at: when the doubts were first raised.
    """

    segments: Sequence[Place] = ()
    counters: Sequence[Place] = ()
    missing: Sequence[Member] = ()
    superfluous: Sequence[Member] = ()
    asked_at: datetime = NOT_ASKED


@dataclass(frozen=True, order=True)
class PeriodKey:
    """One counter's place: a customer's metric in a billing period."""

    customer_ref: str
    metric: str
    span: Span


@dataclass
class Mended:
    """What was changed. counters: all that were looked at, changed or not."""

    segments: list[Place] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)
    counters: list[Place] = field(default_factory=list)


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
    parameters = {"tenant_id": tenant_id} | _columns(sorted(set(places)))
    for row in session.connection().exec_driver_sql(_LOCATED, parameters):
        span = Span(row.start_at.astimezone(UTC), row.end_at.astimezone(UTC))
        key = PeriodKey(row.customer_ref, row.metric, span)
        side = found.closed if row.is_closed else found.open
        side[Place(row.customer_ref, row.metric, row.at)] = key
    return found


def lock(session: Session, tenant_id: str) -> None:
    """Keep all other writers of the tenant's counters out until the transaction ends."""
    locks.lock(session, tenant_id)
    # Small sets of keys, each by its primary key, but for the hours of the ledger.
    session.connection().exec_driver_sql(
        "SELECT set_config('jit', 'off', true), set_config('work_mem', '64MB', true)"
    )


def mend(session: Session, tenant_id: str, doubts: Doubts, *, now: datetime) -> Mended:
    """Look at what is doubted again, and write what is wrong. The caller holds the lock."""
    done = Mended()
    located = locate(session, tenant_id, [*doubts.segments, *doubts.counters])
    _mend_segments(session, tenant_id, [p for p in doubts.segments if p in located.open], done)
    _mend_members(session, tenant_id, doubts, done)
    starts = [Place(m.customer_ref, m.metric, m.period_start) for m in done.members]
    moved = [place for place in doubts.counters if place not in located.closed]
    again = locate(session, tenant_id, starts).open if starts else {}
    periods = {located.open[place] for place in [*done.segments, *moved]} | set(again.values())
    # A counter whose period begins elsewhere is none.
    true = {Place(p.customer_ref, p.metric, p.span.start_at) for p in periods}
    _remove_counters(session, tenant_id, [p for p in moved if p not in true], done)
    _mend_counters(session, tenant_id, sorted(periods), now, done)
    unsent_marks.mark(session, tenant_id, _touched(done), now=now)
    _refresh_corrections(session, tenant_id, done, now)
    return done


def _touched(done: Mended) -> list[tuple[str, str, datetime]]:
    places = {*done.segments, *done.counters}
    return sorted((place.customer_ref, place.metric, place.at) for place in places)


# What nobody decided anything about has no corrected row.
_CORRECTED = """
SELECT DISTINCT c.customer_ref, c.metric, c.period_start, c.period_end
FROM unnest(%(refs)s::text[], %(metrics)s::text[], %(ats)s::timestamptz[])
    AS w (customer_ref, metric, at)
JOIN corrected_counters c ON c.tenant_id = %(tenant_id)s AND c.customer_ref = w.customer_ref
    AND c.metric = w.metric AND c.period_start <= w.at AND c.period_end > w.at
ORDER BY 1, 2, 3
"""


def _refresh_corrections(session: Session, tenant_id: str, done: Mended, now: datetime) -> None:
    """What was decided about periods that were mended counts on top of the mended numbers."""
    places = sorted({*done.segments, *done.counters})
    parameters = {"tenant_id": tenant_id} | _columns(places)
    for row in session.connection().exec_driver_sql(_CORRECTED, parameters).all():
        span = Span(row.period_start, row.period_end)
        corrections.refresh(session, tenant_id, row.customer_ref, row.metric, span, now=now)


def _columns(places: Sequence[Place]) -> dict[str, Any]:
    return {
        "refs": [place.customer_ref for place in places],
        "metrics": [place.metric for place in places],
        "ats": [place.at for place in places],
    }


# Only these hours of these customers' metrics, so that a period may be looked up for each event.
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
    FROM hours h
    JOIN events e ON e.tenant_id = %(tenant_id)s AND h.customer_ref = e.customer_ref
        AND h.metric = e.metric AND h.hour = {hour("e.occurred_at")}
    WHERE e.occurred_at >= %(start_at)s AND e.occurred_at < %(end_at)s AND {IS_FOLDED}
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


def _mend_segments(session: Session, tenant_id: str, places: Sequence[Place], done: Mended) -> None:
    for near in _neighbours(places):
        parameters = {
            "tenant_id": tenant_id,
            "start_at": hour_of(near[0].at),
            "end_at": hour_of(near[-1].at) + HOUR,
            **_columns(near),
        }
        plan_as_sets(session)
        computed = {
            Place(row.customer_ref, row.metric, row.segment_start): row
            for row in session.connection().exec_driver_sql(_SEGMENTS, parameters)
        }
        plan_as_usual(session)
        _write_segments(session, tenant_id, near, computed, done)


def _write_segments(
    session: Session,
    tenant_id: str,
    near: Sequence[Place],
    computed: Mapping[Place, Any],
    done: Mended,
) -> None:
    connection = session.connection()
    gone = {"tenant_id": tenant_id} | _columns([p for p in near if p not in computed])
    rows = connection.exec_driver_sql(_SEGMENTS_GONE, gone).all()
    written = {"tenant_id": tenant_id} | _columns(list(computed))
    for name in _AGGREGATES:
        written[name] = [getattr(row, name) for row in computed.values()]
    rows = [*rows, *connection.exec_driver_sql(_SEGMENTS_WRITTEN, written)]
    done.segments += [Place(*row) for row in rows]


def _neighbours(places: Iterable[Place]) -> list[list[Place]]:
    """By time, parted where nothing is doubted for hours: the ledger is read only where it is."""
    parts: list[list[Place]] = []
    for place in sorted(set(places), key=lambda each: each.at):
        if parts and place.at - parts[-1][-1].at <= _NEAR:
            parts[-1].append(place)
        else:
            parts.append([place])
    return parts


_ADD_MEMBERS = """
INSERT INTO unique_members (tenant_id, customer_ref, metric, period_start, resource_key)
SELECT %(tenant_id)s, w.customer_ref, w.metric, w.at, w.resource_key
FROM unnest(%(refs)s::text[], %(metrics)s::text[], %(ats)s::timestamptz[], %(resources)s::text[])
    AS w (customer_ref, metric, at, resource_key)
ORDER BY 2, 3, 4, 5
ON CONFLICT DO NOTHING
RETURNING customer_ref, metric, period_start, resource_key
"""
# Since the doubt was raised an event may have been folded that names the resource.
_REMOVE_MEMBERS = f"""
DELETE FROM unique_members WHERE tenant_id = %(tenant_id)s AND ctid = ANY (ARRAY(
    SELECT m.ctid
    FROM unnest(%(refs)s::text[], %(metrics)s::text[], %(ats)s::timestamptz[],
                %(resources)s::text[]) AS w (customer_ref, metric, at, resource_key)
    CROSS JOIN LATERAL (
        SELECT ctid FROM unique_members
        WHERE tenant_id = %(tenant_id)s AND customer_ref = w.customer_ref AND metric = w.metric
          AND period_start = w.at AND resource_key = w.resource_key
        OFFSET 0
    ) AS m
    WHERE (w.customer_ref, w.metric, w.resource_key) NOT IN (
        SELECT e.customer_ref, e.metric, {RESOURCE_KEY.format(resource_id="e.resource_id")}
        FROM events e
        WHERE e.tenant_id = %(tenant_id)s AND e.recorded_at >= %(since)s
          AND e.metric = ANY(%(metrics)s::text[]) AND e.resource_id IS NOT NULL)))
RETURNING customer_ref, metric, period_start, resource_key
"""


def _mend_members(session: Session, tenant_id: str, doubts: Doubts, done: Mended) -> None:
    for statement, members in (
        (_ADD_MEMBERS, doubts.missing),
        (_REMOVE_MEMBERS, doubts.superfluous),
    ):
        if not members:
            continue
        starts = {m: Place(m.customer_ref, m.metric, m.period_start) for m in members}
        located = locate(session, tenant_id, starts.values())
        # What is closed stays; and periods may have been drawn anew since.
        kept = [
            member
            for member, start in starts.items()
            if start in located.open
            and (statement is _REMOVE_MEMBERS or located.open[start].span.start_at == start.at)
        ]
        parameters = {
            "tenant_id": tenant_id,
            "resources": [member.resource_key for member in kept],
            "since": doubts.asked_at - _APPEARS,
            **_columns([starts[member] for member in kept]),
        }
        rows = session.connection().exec_driver_sql(statement, parameters)
        done.members += [Member(*row) for row in rows]


_REMOVE_COUNTERS = """
DELETE FROM counters WHERE tenant_id = %(tenant_id)s AND ctid = ANY (ARRAY(
    SELECT c.ctid
    FROM unnest(%(refs)s::text[], %(metrics)s::text[], %(ats)s::timestamptz[])
        AS w (customer_ref, metric, at)
    CROSS JOIN LATERAL (
        SELECT ctid FROM counters
        WHERE tenant_id = %(tenant_id)s AND customer_ref = w.customer_ref
          AND metric = w.metric AND period_start = w.at
        OFFSET 0
    ) AS c))
RETURNING customer_ref, metric, period_start
"""


def _remove_counters(
    session: Session, tenant_id: str, places: Sequence[Place], done: Mended
) -> None:
    if not places:
        return
    parameters = {"tenant_id": tenant_id} | _columns(places)
    rows = session.connection().exec_driver_sql(_REMOVE_COUNTERS, parameters)
    done.counters += [Place(*row) for row in rows]


# The hours of a counter follow each other: the last of them holds its latest event. What lay behind
# the watermark when it was folded is history, and stays.
_COUNTERS = """
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest(%(refs)s::text[], %(metrics)s::text[], %(ats)s::timestamptz[],
                         %(ends)s::timestamptz[]) AS w (customer_ref, metric, at, end_at)
), computed AS MATERIALIZED (
    SELECT w.customer_ref, w.metric, w.at AS period_start, w.end_at AS period_end,
           whole.event_count, whole.sum_value, whole.max_value, latest.last_value,
           latest.last_occurred_at, latest.last_key, seen.members
    FROM wanted w
    CROSS JOIN LATERAL (
        SELECT sum(s.event_count)::bigint AS event_count, sum(s.sum_value) AS sum_value,
               max(s.max_value) AS max_value
        FROM segments s
        WHERE s.tenant_id = %(tenant_id)s AND s.customer_ref = w.customer_ref
          AND s.metric = w.metric AND s.segment_start >= w.at AND s.segment_start < w.end_at
        OFFSET 0
    ) AS whole
    CROSS JOIN LATERAL (
        SELECT s.last_value, s.last_occurred_at, s.last_key FROM segments s
        WHERE s.tenant_id = %(tenant_id)s AND s.customer_ref = w.customer_ref
          AND s.metric = w.metric AND s.segment_start >= w.at AND s.segment_start < w.end_at
        ORDER BY s.segment_start DESC LIMIT 1
    ) AS latest
    CROSS JOIN LATERAL (
        SELECT count(*) AS members FROM unique_members m
        WHERE m.tenant_id = %(tenant_id)s AND m.customer_ref = w.customer_ref
          AND m.metric = w.metric AND m.period_start = w.at
        OFFSET 0
    ) AS seen
), gone AS (
    DELETE FROM counters WHERE tenant_id = %(tenant_id)s AND ctid = ANY (ARRAY(
        SELECT c.ctid FROM wanted w
        CROSS JOIN LATERAL (
            SELECT ctid FROM counters
            WHERE tenant_id = %(tenant_id)s AND customer_ref = w.customer_ref
              AND metric = w.metric AND period_start = w.at
            OFFSET 0
        ) AS c
        WHERE NOT EXISTS (SELECT 1 FROM computed n WHERE n.customer_ref = w.customer_ref
                          AND n.metric = w.metric AND n.period_start = w.at)))
    RETURNING customer_ref, metric, period_start
), written AS (
    INSERT INTO counters AS c (tenant_id, customer_ref, metric, period_start, period_end,
                               event_count, sum_value, max_value, last_value, last_occurred_at,
                               last_key, unique_count, watermark, folded_at)
    SELECT %(tenant_id)s, n.customer_ref, n.metric, n.period_start, n.period_end, n.event_count,
           n.sum_value, n.max_value, n.last_value, n.last_occurred_at, n.last_key, n.members,
           n.last_occurred_at, %(now)s
    FROM computed n ORDER BY n.customer_ref, n.metric, n.period_start
    ON CONFLICT (tenant_id, customer_ref, metric, period_start) DO UPDATE SET
        period_end = excluded.period_end, event_count = excluded.event_count,
        sum_value = excluded.sum_value, max_value = excluded.max_value,
        last_value = excluded.last_value,
        last_occurred_at = excluded.last_occurred_at, last_key = excluded.last_key,
        unique_count = excluded.unique_count, watermark = excluded.watermark,
        folded_at = excluded.folded_at
    WHERE (c.period_end, c.event_count, c.sum_value, c.max_value, c.last_value,
           c.last_occurred_at, c.last_key, c.unique_count, c.watermark)
        IS DISTINCT FROM (excluded.period_end, excluded.event_count, excluded.sum_value,
            excluded.max_value, excluded.last_value, excluded.last_occurred_at,
            excluded.last_key, excluded.unique_count, excluded.watermark)
    RETURNING c.customer_ref, c.metric, c.period_start
)
SELECT * FROM gone UNION ALL SELECT * FROM written
"""


def _mend_counters(
    session: Session, tenant_id: str, periods: Sequence[PeriodKey], now: datetime, done: Mended
) -> None:
    if not periods:
        return
    places = [Place(p.customer_ref, p.metric, p.span.start_at) for p in periods]
    parameters = {
        "tenant_id": tenant_id,
        "ends": [period.span.end_at for period in periods],
        "now": now,
        **_columns(places),
    }
    rows = session.connection().exec_driver_sql(_COUNTERS, parameters)
    done.counters += [Place(*row) for row in rows]
