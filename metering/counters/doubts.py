"""Which counted numbers are not what the ledger says: read without a lock, one snapshot each time.

What is found here is only a doubt. Whoever mends looks again under the tenant's lock, and finds
nothing to do where an event was folded in between (see `mending`).

A day of 170,000 events in 66,000 segments takes a quarter of a second of one core. Hence hash joins
and grouping by the hour; both sides are compared by the sums of hashes of all that is in a row, for
a thousandth of the customers each, and row by row only where these differ; no look-up is made for
an event, and no event is sorted: the latest one is the greatest by a text that begins with its
instant.
"""

from collections import Counter as Tally
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from metering.catalog.period import Span
from metering.database import plan_as_sets


@dataclass(frozen=True)
class Scope:
    """Whose numbers. metrics: None: all.  customer_ref: None: everybody's."""

    tenant_id: str
    metrics: tuple[str, ...] | None = None
    customer_ref: str | None = None

    def parameters(self) -> dict[str, Any]:
        return {
            "tenant_id": self.tenant_id,
            "metrics": None if self.metrics is None else list(self.metrics),
            "customer_ref": self.customer_ref,
        }


@dataclass(frozen=True, order=True)
class Place:
    """An instant of a customer's metric: a segment's start, or any within a period."""

    customer_ref: str
    metric: str
    at: datetime


@dataclass(frozen=True)
class Difference:
    """By how much the ledger and what is counted differ: ledger less counted."""

    events: int = 0
    quantity: Decimal = Decimal(0)


@dataclass(frozen=True)
class Scanned:
    """What a stretch of the ledger has shown.

    events: that belong into counters, by metric.  segments: with a difference.
    uncovered: segments that no counter holds.
    """

    events: dict[str, int]
    segments: dict[Place, Difference]
    uncovered: list[Place]


def hour(instant: str) -> str:
    """SQL: the start of the UTC hour. Cheaper than `date_trunc`, and the same in any zone."""
    return f"date_bin('1 hour', {instant}, '2000-01-01 00:00:00Z')"


def asked(row: str) -> str:
    """SQL: the row is of the metrics and of the customer that are asked for."""
    return f"""
        (%(metrics)s::text[] IS NULL OR {row}.metric = ANY(%(metrics)s::text[]))
        AND (%(customer_ref)s::text IS NULL OR {row}.customer_ref = %(customer_ref)s::text)
    """


# Instants are eight bytes, which order as they do: nothing occurred before the year 2000.
_LATEST = "encode(timestamptz_send({at}), 'hex') || {key} || ' ' || trim_scale({value})"
_LATEST_EVENT = _LATEST.format(at="e.occurred_at", key="e.idempotency_key", value="e.quantity")
_LATEST_STORED = _LATEST.format(at="s.last_occurred_at", key="s.last_key", value="s.last_value")
# By the table that takes an event out of the counters; who has no row there is spared the join.
_APART = {
    "unfolded": """AND NOT EXISTS (SELECT 1 FROM unfolded u WHERE u.tenant_id = %(tenant_id)s
        AND u.recorded_at = e.recorded_at AND u.idempotency_key = e.idempotency_key)""",
    "set_aside": """AND NOT EXISTS (SELECT 1 FROM set_aside a WHERE a.tenant_id = %(tenant_id)s
        AND a.idempotency_key = e.idempotency_key)""",
    "dead_letters": """AND NOT EXISTS (SELECT 1 FROM dead_letters d
        WHERE d.tenant_id = %(tenant_id)s AND d.idempotency_key = e.idempotency_key)""",
}
_SOME_APART = """
SELECT EXISTS (SELECT 1 FROM unfolded WHERE tenant_id = %(tenant_id)s) AS unfolded,
       EXISTS (SELECT 1 FROM set_aside WHERE tenant_id = %(tenant_id)s) AS set_aside,
       EXISTS (SELECT 1 FROM dead_letters WHERE tenant_id = %(tenant_id)s) AS dead_letters,
       EXISTS (SELECT 1 FROM billing_periods WHERE tenant_id = %(tenant_id)s) AS cuts
"""
# Hours in which a billing period begins or ends: their segments are parts of them.
_CUTS = f"""
cuts AS MATERIALIZED (
    SELECT b.customer_ref, b.metric, {hour("edge.at")} AS hour, array_agg(DISTINCT edge.at) AS edges
    FROM billing_periods b CROSS JOIN LATERAL (VALUES (b.start_at), (b.end_at)) AS edge (at)
    WHERE b.tenant_id = %(tenant_id)s AND edge.at >= %(start_at)s AND edge.at < %(end_at)s
      AND edge.at <> {hour("edge.at")} AND {asked("b")}
    GROUP BY 1, 2, 3
),
"""
_CUT = f"""
LEFT JOIN cuts ON cuts.customer_ref = e.customer_ref AND cuts.metric = e.metric
    AND cuts.hour = {hour("e.occurred_at")}
"""
_CUT_START = f"""
CASE WHEN cuts.edges IS NULL THEN {hour("e.occurred_at")}
     ELSE coalesce((SELECT max(edge) FROM unnest(cuts.edges) AS edge WHERE edge <= e.occurred_at),
                   {hour("e.occurred_at")}) END
"""
_ROW = (
    "(x.customer_ref, x.metric, x.segment_start, x.event_count, x.sum_value, x.max_value, x.latest)"
)
_BUCKET = "hashtext({row}.customer_ref) & 1023"
_HASHED = f"""
computed AS {{kept}} MATERIALIZED (
    SELECT x.*, hash_record_extended({_ROW}, 0) AS hash FROM (
        SELECT e.customer_ref, e.metric, {{segment_start}} AS segment_start,
               count(*) AS event_count, sum(e.quantity) AS sum_value,
               max(e.quantity) AS max_value,
               max({_LATEST_EVENT}) AS latest
        FROM events e {{cut}}
        WHERE e.tenant_id = %(tenant_id)s AND {asked("e")}
          AND e.occurred_at >= %(start_at)s AND e.occurred_at < %(end_at)s
          {{only_events}} {{apart}}
        GROUP BY 1, 2, 3
    ) AS x
), stored AS {{kept}} MATERIALIZED (
    SELECT x.*, hash_record_extended({_ROW}, 0) AS hash FROM (
        SELECT s.customer_ref, s.metric, s.segment_start, s.event_count, s.sum_value, s.max_value,
               {_LATEST_STORED} AS latest
        FROM segments s
        WHERE s.tenant_id = %(tenant_id)s AND {asked("s")}
          AND s.segment_start >= %(start_at)s AND s.segment_start < %(end_at)s {{only_segments}}
    ) AS x
)
"""
# By metric and by some customers at a time: the sum of the hashes tells whether all is right.
_SUMS = f"""
WITH {{cuts}} {_HASHED}
SELECT coalesce(c.metric, s.metric) AS metric, coalesce(c.bucket, s.bucket) AS bucket,
       coalesce(c.events, 0) AS events, c.hash IS NOT DISTINCT FROM s.hash AS is_right
FROM (SELECT x.metric, {_BUCKET.format(row="x")} AS bucket, sum(x.event_count)::bigint AS events,
             sum(x.hash) AS hash FROM computed x GROUP BY 1, 2) AS c
FULL JOIN (SELECT x.metric, {_BUCKET.format(row="x")} AS bucket, sum(x.hash) AS hash
           FROM stored x GROUP BY 1, 2) AS s ON s.metric = c.metric AND s.bucket = c.bucket
"""
# And of those, which hours are not: both sides, the stored one with its sign turned.
_SEGMENTS = f"""
WITH {{cuts}} {_HASHED}
SELECT coalesce(c.customer_ref, s.customer_ref) AS customer_ref,
       coalesce(c.metric, s.metric) AS metric,
       coalesce(c.segment_start, s.segment_start) AS segment_start,
       coalesce(c.event_count, -s.event_count) AS events,
       coalesce(c.sum_value, -s.sum_value) AS quantity
FROM computed c FULL JOIN stored s ON s.hash = c.hash
WHERE s.hash IS NULL OR c.hash IS NULL
"""
# A subplan that is hashed once: an array would be searched from its beginning for each row.
_ONLY = "AND (({bucket}) IN (SELECT unnest(%(buckets)s::int[]))) IS TRUE"

# Pairs whose hours in the stretch lie in one counter are done with at once.
_UNCOVERED = f"""
WITH pairs AS MATERIALIZED (
    SELECT s.customer_ref, s.metric, min(s.segment_start) AS first_at,
           max(s.segment_start) AS last_at
    FROM segments s
    WHERE s.tenant_id = %(tenant_id)s AND {asked("s")}
      AND s.segment_start >= %(start_at)s AND s.segment_start < %(end_at)s
    GROUP BY 1, 2
), doubtful AS MATERIALIZED (
    SELECT p.* FROM pairs p
    WHERE NOT EXISTS (
        SELECT 1 FROM counters c
        WHERE c.tenant_id = %(tenant_id)s AND c.customer_ref = p.customer_ref
          AND c.metric = p.metric AND c.period_start <= p.first_at AND c.period_end > p.last_at)
)
SELECT s.customer_ref, s.metric, s.segment_start
FROM segments s
JOIN doubtful d ON d.customer_ref = s.customer_ref AND d.metric = s.metric
WHERE s.tenant_id = %(tenant_id)s
  AND s.segment_start >= %(start_at)s AND s.segment_start < %(end_at)s
  AND NOT EXISTS (
      SELECT 1 FROM counters c
      WHERE c.tenant_id = %(tenant_id)s AND c.customer_ref = s.customer_ref
        AND c.metric = s.metric AND c.period_start <= s.segment_start
        AND c.period_end > s.segment_start)
"""


def of_segments(session: Session, scope: Scope, span: Span) -> Scanned:
    """Compare a stretch's segments with the ledger. span: whole UTC hours."""
    parameters = scope.parameters() | {"start_at": span.start_at, "end_at": span.end_at}
    plan(session)
    events: Tally[str] = Tally()
    found: dict[Place, Difference] = {}
    wrong = set()
    for row in of_ledger(session, _SUMS, parameters):
        events[row.metric] += row.events
        if not row.is_right:
            wrong.add(row.bucket)
    if wrong:
        parameters["buckets"] = sorted(wrong)
        for row in of_ledger(session, _SEGMENTS, parameters):
            place = Place(row.customer_ref, row.metric, row.segment_start)
            known = found.get(place, Difference())
            found[place] = Difference(known.events + row.events, known.quantity + row.quantity)
    uncovered = [Place(*row) for row in run(session, _UNCOVERED, parameters)]
    return Scanned(dict(events), found, uncovered)


def plan(session: Session) -> None:
    """Hash joins and hashed groups, with the memory that they need; until the transaction ends."""
    plan_as_sets(session)
    session.connection().exec_driver_sql(
        "SELECT set_config('enable_mergejoin', 'off', true),"
        " set_config('enable_sort', 'off', true), set_config('work_mem', '64MB', true)"
    )


def of_ledger(session: Session, statement: str, parameters: dict[str, Any]) -> Sequence[Any]:
    """The rows of a statement about the ledger, with the joins that this tenant needs."""
    while True:
        before = run(session, _SOME_APART, parameters).one()
        rows: Sequence[Any] = run(session, _needed(statement, before), parameters).all()
        after = run(session, _SOME_APART, parameters).one()
        # What has its first row only since was left out of the reckoning: read once more.
        if not any(now and not then for then, now in zip(before, after, strict=True)):
            return rows


def _needed(statement: str, some: Any) -> str:
    return statement.format(
        apart=" ".join(condition for table, condition in _APART.items() if getattr(some, table)),
        cuts=_CUTS if some.cuts else "",
        cut=_CUT if some.cuts else "",
        segment_start=_CUT_START if some.cuts else hour("e.occurred_at"),
        # What is read once is not put by.
        kept="NOT" if statement is _SUMS else "",
        only_events=_ONLY.format(bucket=_BUCKET.format(row="e")) if statement is _SEGMENTS else "",
        only_segments=_ONLY.format(bucket=_BUCKET.format(row="s"))
        if statement is _SEGMENTS
        else "",
    )


def run(session: Session, statement: str, parameters: dict[str, Any]) -> Any:
    return session.connection().exec_driver_sql(statement, parameters)
