"""Counted usage as a back-test reads it: customers in byte order, so many at a time."""

from collections.abc import Hashable, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from metering.billing.question import Question
from metering.catalog.period import calendar_month
from metering.counters.aggregation import reading
from pricing.backtest import Row

# A loose index scan: one descent of the primary key per customer, however many counters it has.
_CUSTOMERS = """
WITH RECURSIVE listed AS (
    SELECT CAST(%(after)s AS text) COLLATE "C" AS customer_ref, 0 AS n
    UNION ALL
    SELECT (SELECT c.customer_ref FROM counters c
            WHERE c.tenant_id = %(tenant_id)s AND c.customer_ref > listed.customer_ref
            ORDER BY c.customer_ref LIMIT 1), n + 1
    FROM listed WHERE n < %(most)s AND listed.customer_ref IS NOT NULL
)
SELECT count(*), coalesce(max(customer_ref), '') FROM listed
WHERE n > 0 AND customer_ref IS NOT NULL
"""


def next_customers(session: Session, tenant_id: str, after: str, most: int) -> tuple[int, str]:
    """How many customers with counters follow, at most `most`, and the last of them."""
    parameters = {"tenant_id": tenant_id, "after": after, "most": most}
    count, last = session.connection().exec_driver_sql(_CUSTOMERS, parameters).one()
    return count, last


_USAGE = """
SELECT customer_ref, metric, period_start, event_count, sum_value, max_value, last_value,
       unique_count, delta
FROM used_counters
WHERE tenant_id = %(tenant_id)s AND customer_ref > %(after)s AND customer_ref <= %(last)s
  AND metric = ANY(%(metrics)s) AND period_start >= %(since)s AND period_start < %(until)s
ORDER BY customer_ref, metric, period_start
"""


def of_customers(
    session: Session, tenant_id: str, question: Question, after: str, last: str
) -> Iterator[Row[Hashable]]:
    """The customers' quantities, each metric by its own aggregation, by month."""
    readings, wanted, own = question.readings, set(question.months), question.own_prices()
    parameters = {
        "tenant_id": tenant_id,
        "after": after,
        "last": last,
        "metrics": list(readings),
        "since": question.months[0],
        "until": calendar_month(question.months[-1]).end_at,
    }
    month_of: dict[datetime, datetime] = {}
    rows: Sequence[Any] = session.connection().exec_driver_sql(_USAGE, parameters).all()
    for row in rows:
        begins = row.period_start
        month = month_of.get(begins)
        if month is None:
            month = month_of[begins] = calendar_month(begins).start_at
        if month in wanted:
            ref, metric = row.customer_ref, row.metric
            period = (ref, month) if own and (metric, ref, month) in own else month
            yield ref, metric, period, reading(readings[metric], row, row.unique_count)
