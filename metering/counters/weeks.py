"""What a customer's past weeks brought, hour of the week by hour of the week, from segments."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal
from typing import Any

from sqlalchemy.orm import Session

FEWEST, MOST = 4, 8
_HOUR, _WEEK = 3600, 7 * 86_400
# Counters are unbounded numerics: Decimal's usual 28 digits would not hold each of them.
_WIDE = Context(prec=100)


@dataclass(frozen=True)
class PastWeek:
    """One metric's usage in one week: the whole of it, and weighed twice (see `of_customer`)."""

    sum_whole: Decimal = Decimal(0)
    sum_behind: Decimal = Decimal(0)
    sum_ahead: Decimal = Decimal(0)
    count_whole: Decimal = Decimal(0)
    count_behind: Decimal = Decimal(0)
    count_ahead: Decimal = Decimal(0)


def of_customer(
    session: Session,
    tenant_id: str,
    customer_ref: str,
    metrics: Sequence[str],
    *,
    behind: Sequence[int],
    ahead: Sequence[int],
    now: datetime,
) -> dict[str, list[PastWeek]]:
    """The last 4 to 8 whole weeks of each metric, the latest first; they end at the full hour.

    behind, ahead: seconds by hour of the week from the epoch on; each hour's usage is taken as
                   many times as its seconds fill hours.
    Returns: nothing of a metric whose known usage does not reach back 4 weeks, or was 0. A week
             without usage in between counts, as zero.
    """
    if not metrics:
        return {}
    until = int(now.timestamp()) // _HOUR * _HOUR
    parameters = {
        "tenant_id": tenant_id,
        "customer_ref": customer_ref,
        "metrics": list(metrics),
        "behind": list(behind),
        "ahead": list(ahead),
        "until": until,
        "since": until - MOST * _WEEK,
    }
    found: dict[str, list[Any]] = {}
    for row in session.connection().exec_driver_sql(_BY_WEEK, parameters):
        found.setdefault(row.metric, []).append(row)
    weeks = {metric: _weeks(rows, until) for metric, rows in found.items()}
    return {metric: past for metric, past in weeks.items() if past}


def _weeks(rows: Sequence[Any], until: int) -> list[PastWeek]:
    known = min(MOST, (until - min(row.first_at for row in rows)) // _WEEK)
    if known < FEWEST:
        return []
    by_week = {
        row.week: PastWeek(
            row.sum_whole, _hours(row.sum_behind), _hours(row.sum_ahead),
            row.count_whole, _hours(row.count_behind), _hours(row.count_ahead),
        )
        for row in rows
    }  # fmt: skip
    weeks = [by_week.get(week, PastWeek()) for week in range(known)]
    return weeks if any(week.sum_whole or week.count_whole for week in weeks) else []


def _hours(weighed_by_seconds: Decimal) -> Decimal:
    return _WIDE.divide(weighed_by_seconds, Decimal(_HOUR))


# Weighed where the rows are: what comes back is eight rows, not 1344 hours.
_BY_WEEK = """
SELECT s.metric, (%(until)s::bigint - 1 - h.at) / 604800 AS week, min(h.at) AS first_at,
       sum(s.sum_value) AS sum_whole,
       sum(s.sum_value * (%(behind)s::int[])[h.hour]) AS sum_behind,
       sum(s.sum_value * (%(ahead)s::int[])[h.hour]) AS sum_ahead,
       sum(s.event_count) AS count_whole,
       sum(s.event_count * (%(behind)s::int[])[h.hour]) AS count_behind,
       sum(s.event_count * (%(ahead)s::int[])[h.hour]) AS count_ahead
FROM segments s
CROSS JOIN LATERAL (
    SELECT extract(epoch FROM s.segment_start)::bigint AS at,
           (extract(epoch FROM s.segment_start)::bigint / 3600 %% 168 + 1)::int AS hour
) AS h
WHERE s.tenant_id = %(tenant_id)s AND s.customer_ref = %(customer_ref)s
  AND s.metric = ANY(%(metrics)s)
  AND s.segment_start >= to_timestamp(%(since)s::bigint)
  AND s.segment_start < to_timestamp(%(until)s::bigint)
GROUP BY 1, 2
"""
