"""The billing periods of the customers' metrics that feed streams."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from metering.catalog.models import BillingPeriod
from metering.catalog.period import calendar_month


@dataclass(frozen=True, order=True)
class Source:
    """A customer's metric that feeds a stream."""

    customer_ref: str
    metric: str


@dataclass(frozen=True)
class PeriodOf:
    """The billing period that holds an instant.

    mode: that of the subscription item it is of; None: a calendar month, bound to none.
    is_final: its invoice can bill nothing more.
    """

    start_at: datetime
    end_at: datetime
    mode: str | None = None
    is_final: bool = False
    closes_at: datetime | None = None


class Periods:
    """The periods of these sources, loaded at once."""

    def __init__(self, session: Session, tenant_id: str, sources: Iterable[Source]) -> None:
        self._rows: dict[Source, list[BillingPeriod]] = defaultdict(list)
        pairs = [(source.customer_ref, source.metric) for source in set(sources)]
        rows = session.scalars(
            select(BillingPeriod)
            .where(
                BillingPeriod.tenant_id == tenant_id,
                tuple_(BillingPeriod.customer_ref, BillingPeriod.metric).in_(pairs),
            )
            .order_by(BillingPeriod.start_at)
        )
        for row in rows:
            self._rows[Source(row.customer_ref, row.metric)].append(row)

    def at(self, source: Source, instant: datetime) -> PeriodOf:
        """The period that holds the instant: of the item, else the month between its items'."""
        return _at(self._rows.get(source, []), instant)


def _at(rows: Sequence[BillingPeriod], instant: datetime) -> PeriodOf:
    position = bisect_right(rows, instant, key=lambda row: row.start_at)
    before = rows[position - 1] if position else None
    if before is not None and instant < before.end_at:
        return PeriodOf(
            before.start_at,
            before.end_at,
            before.mode,
            before.final_at is not None,
            before.closes_at,
        )
    month = calendar_month(instant)
    start_at, end_at = month.start_at, month.end_at
    if before is not None:
        start_at = max(start_at, before.end_at)
    if position < len(rows):
        end_at = min(end_at, rows[position].start_at)
    return PeriodOf(start_at, end_at)
