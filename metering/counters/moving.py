"""Write a customer's metric's counters anew after its billing periods have changed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.catalog import period_sql
from metering.catalog.models import Metric
from metering.catalog.period import Span, hour_of
from metering.counters import carried, corrections, proposals
from metering.counters.aggregation import IS_FOLDED, OF_EVENTS, OF_PARTS, RESOURCE_KEY
from metering.database import plan_as_sets, plan_as_usual

_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Mover:
    """Brings one customer's metric in line with its rows in `billing_periods`."""

    session: Session
    tenant_id: str
    customer_ref: str
    metric: str
    now: datetime

    def move(self, spans: Sequence[Span], edges: Iterable[datetime]) -> None:
        """spans: whole periods, both of before and of now.  edges: where one began or begins."""
        split = {hour_of(edge) for edge in edges if edge != hour_of(edge)}
        for span in spans:
            self._run(_SET_ASIDE, span)
        key = self.tenant_id, self.customer_ref, self.metric
        proposals.follow(self.session, *key, spans, now=self.now)
        unique = self.session.scalar(
            select(Metric.unique_enabled).where(
                Metric.tenant_id == self.tenant_id, Metric.metric == self.metric
            )
        )
        plan_as_sets(self.session)
        for span in spans:
            for hour in sorted(split):
                start_at, end_at = max(hour, span.start_at), min(hour + _HOUR, span.end_at)
                if start_at < end_at:
                    self._cut(Span(start_at, end_at))
            old = self._run(_COUNTERS_GONE, span).all()
            self._run(_MEMBERS_GONE, span)
            if not old:
                continue
            if unique:
                self._run(_MEMBERS, span)
            self._run(
                _COUNTERS,
                span,
                watermarks=[row.watermark for row in old],
                reaggregations=[row.reaggregations for row in old],
            )
        plan_as_usual(self.session)
        for span in spans:
            corrections.refresh(self.session, *key, span, now=self.now)
        for span in spans:
            carried.bring_up(self.session, *key, span, now=self.now)

    def _cut(self, span: Span) -> None:
        """Make the segments of an hour, or of a part of it, anew; an unused one costs nothing."""
        if self._run(_SEGMENTS_GONE, span).rowcount:
            self._run(_SEGMENTS, span)

    def _run(self, statement: str, span: Span, **more: object) -> Any:
        parameters = {
            "tenant_id": self.tenant_id,
            "customer_ref": self.customer_ref,
            "metric": self.metric,
            "start_at": span.start_at,
            "end_at": span.end_at,
            "now": self.now,
            **more,
        }
        return self.session.connection().exec_driver_sql(statement, parameters)


_MINE = "customer_ref = %(customer_ref)s AND metric = %(metric)s"


def _begun(instant: str) -> str:
    return period_sql.begun("%(customer_ref)s", "%(metric)s", instant)


# LATERAL with OFFSET 0: each event by its key.
_SET_ASIDE = f"""
WITH late AS MATERIALIZED (
    SELECT a.idempotency_key, e.occurred_at, {_begun("e.occurred_at")} AS begun
    FROM (SELECT idempotency_key FROM set_aside
          WHERE tenant_id = %(tenant_id)s AND {_MINE}
            AND period_start >= %(start_at)s AND period_start < %(end_at)s) AS a
    CROSS JOIN LATERAL (
        SELECT occurred_at FROM events
        WHERE tenant_id = %(tenant_id)s AND idempotency_key = a.idempotency_key OFFSET 0
    ) AS e
)
UPDATE set_aside SET period_start = moved.start_at
FROM (SELECT idempotency_key, {period_sql.start("begun", "occurred_at")} AS start_at FROM late)
    AS moved
WHERE tenant_id = %(tenant_id)s AND set_aside.idempotency_key = moved.idempotency_key
  AND period_start <> moved.start_at
"""

_SEGMENTS_GONE = f"""
DELETE FROM segments
WHERE tenant_id = %(tenant_id)s AND {_MINE}
  AND segment_start >= %(start_at)s AND segment_start < %(end_at)s
"""
_FOLDED = f"""
folded AS MATERIALIZED (
    SELECT e.idempotency_key, e.resource_id, e.quantity, e.occurred_at,
           {_begun("e.occurred_at")} AS begun
    FROM events e
    WHERE e.tenant_id = %(tenant_id)s AND e.customer_ref = %(customer_ref)s
      AND e.metric = %(metric)s
      AND e.occurred_at >= %(start_at)s AND e.occurred_at < %(end_at)s
      AND {IS_FOLDED}
)
"""
_SEGMENTS = f"""
WITH {_FOLDED}
INSERT INTO segments (tenant_id, customer_ref, metric, segment_start, event_count, sum_value,
                      max_value, last_value, last_occurred_at, last_key)
SELECT %(tenant_id)s, %(customer_ref)s, %(metric)s,
       greatest(date_trunc('hour', e.occurred_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC',
                {period_sql.start("e.begun", "e.occurred_at")}), {OF_EVENTS}
FROM folded e GROUP BY 4
"""

_MEMBERS_GONE = f"""
DELETE FROM unique_members
WHERE tenant_id = %(tenant_id)s AND {_MINE}
  AND period_start >= %(start_at)s AND period_start < %(end_at)s
"""
_MEMBERS = f"""
WITH {_FOLDED}
INSERT INTO unique_members (tenant_id, customer_ref, metric, period_start, resource_key)
SELECT DISTINCT %(tenant_id)s, %(customer_ref)s, %(metric)s,
       {period_sql.start("e.begun", "e.occurred_at")},
       {RESOURCE_KEY.format(resource_id="e.resource_id")}
FROM folded e WHERE e.resource_id IS NOT NULL
"""

_COUNTERS_GONE = f"""
DELETE FROM counters
WHERE tenant_id = %(tenant_id)s AND {_MINE}
  AND period_start >= %(start_at)s AND period_start < %(end_at)s
RETURNING watermark, reaggregations
"""
# What lay behind an old counter's watermark goes with the event at that watermark: the sum stays.
_COUNTERS = f"""
WITH placed AS MATERIALIZED (
    SELECT s.*, {_begun("s.segment_start")} AS begun
    FROM segments s
    WHERE tenant_id = %(tenant_id)s AND {_MINE}
      AND segment_start >= %(start_at)s AND segment_start < %(end_at)s
), computed AS MATERIALIZED (
    SELECT {period_sql.start("s.begun", "s.segment_start")} AS period_start,
           {period_sql.end("s.begun", "s.customer_ref", "s.metric", "s.segment_start")}
               AS period_end, {OF_PARTS}
    FROM placed s GROUP BY 1, 2
)
INSERT INTO counters (tenant_id, customer_ref, metric, period_start, period_end, event_count,
                      sum_value, max_value, last_value, last_occurred_at, last_key, unique_count,
                      watermark, reaggregations, folded_at)
SELECT %(tenant_id)s, %(customer_ref)s, %(metric)s, c.period_start, c.period_end, c.event_count,
       c.sum_value, c.max_value, c.last_value, c.last_occurred_at, c.last_key,
       (SELECT count(*) FROM unique_members m
        WHERE m.tenant_id = %(tenant_id)s AND m.customer_ref = %(customer_ref)s
          AND m.metric = %(metric)s AND m.period_start = c.period_start),
       c.last_occurred_at,
       (SELECT coalesce(sum(old.reaggregations), 0)
        FROM unnest(%(watermarks)s::timestamptz[], %(reaggregations)s::bigint[])
            AS old (watermark, reaggregations)
        WHERE old.watermark >= c.period_start AND old.watermark < c.period_end),
       %(now)s
FROM computed c
"""
