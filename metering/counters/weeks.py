"""What a customer's past weeks brought, hour of the week by hour of the week, from segments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Context, Decimal
from typing import Any

from sqlalchemy.orm import Session

FEWEST, MOST = 4, 8
SHORTEST = timedelta(weeks=FEWEST)
_HOUR, _WEEK = 3600, 7 * 86_400
# Counters are unbounded numerics: Decimal's usual 28 digits would not hold each of them.
_WIDE = Context(prec=100)


@dataclass(frozen=True)
class PastWeek:
    """One metric's usage in one week: the whole of it, and weighed twice (see `of_customer`)."""

    whole: Decimal = Decimal(0)
    behind: Decimal = Decimal(0)
    ahead: Decimal = Decimal(0)


def of_customer(
    session: Session,
    tenant_id: str,
    customer_ref: str,
    metrics: Mapping[str, str],
    *,
    behind: Sequence[int],
    ahead: Sequence[int],
    now: datetime,
) -> dict[str, list[PastWeek]]:
    """The last 4 to 8 whole weeks of each metric, the latest first; they end at the full hour.

    metrics: sum or count, by metric.
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
        "counted": [metric for metric, aggregation in metrics.items() if aggregation == "count"],
        "behind": _array(behind),
        "ahead": _array(ahead),
        "until": until,
        "since": until - MOST * _WEEK,
    }
    found: dict[str, list[Any]] = {}
    for row in session.connection().exec_driver_sql(_BY_WEEK, parameters):
        found.setdefault(row.metric, []).append(row)
    weeks = {metric: _weeks(rows, until) for metric, rows in found.items()}
    return {metric: past for metric, past in weeks.items() if any(week.whole for week in past)}


def _array(numbers: Sequence[int]) -> str:
    """As Postgres writes one: the driver would look at each of 336 numbers to do the same."""
    return f"{{{','.join(map(str, numbers))}}}"


def _weeks(rows: Sequence[Any], until: int) -> list[PastWeek]:
    known = min(MOST, (until - min(row.first_at for row in rows)) // _WEEK)
    if known < FEWEST:
        return []
    by_week = {row.week: PastWeek(row.whole, _hours(row.behind), _hours(row.ahead)) for row in rows}
    return [by_week.get(week, PastWeek()) for week in range(known)]


def _hours(weighed_by_seconds: Decimal) -> Decimal:
    return _WIDE.divide(weighed_by_seconds, Decimal(_HOUR))


# Weighed where the rows are: what comes back is eight rows, not 1344 hours.
_BY_WEEK = """
SELECT s.metric, (%(until)s::bigint - 1 - h.at) / 604800 AS week, min(h.at) AS first_at,
       sum(h.value) AS whole,
       sum(h.value * (%(behind)s::int[])[h.at / 3600 %% 168 + 1]) AS behind,
       sum(h.value * (%(ahead)s::int[])[h.at / 3600 %% 168 + 1]) AS ahead
FROM used_segments s
CROSS JOIN LATERAL (
    SELECT extract(epoch FROM s.segment_start)::bigint AS at,
           CASE WHEN s.metric = ANY(%(counted)s) THEN s.event_count ELSE s.sum_value END
               + s.delta AS value
) AS h
WHERE s.tenant_id = %(tenant_id)s AND s.customer_ref = %(customer_ref)s
  AND s.metric = ANY(%(metrics)s)
  AND s.segment_start >= to_timestamp(%(since)s::bigint)
  AND s.segment_start < to_timestamp(%(until)s::bigint)
GROUP BY 1, 2
"""
