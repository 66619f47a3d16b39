"""Move counters to other billing periods, when a subscription becomes known or changes.

Everything happens in one transaction under the tenant's lock, so that no fold draws the old periods
while the new ones are written. Only the hours that a boundary splits are read from the ledger (and
the whole of what moves, where unique counts are kept); the rest is put together from segments.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.catalog import timetable
from metering.catalog.models import BillingPeriod
from metering.catalog.period import Bounded, Span, span_at
from metering.catalog.schedules import PlannedPeriod
from metering.counters.moving import Mover
from metering.tenancy import locks

_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True)
class Moved:
    """Counters and segments outside `span` are what they were."""

    span: Span


def replan(
    session: Session,
    tenant_id: str,
    customer_ref: str,
    metric: str,
    wanted: Sequence[PlannedPeriod],
    *,
    now: datetime,
) -> Moved | None:
    """Give a customer's metric the wanted billing periods, and their counters with them.

    Closed periods and their counters stay as they are, and so do open ones from before the wanted;
    see `timetable.redrawn`. A period whose end changes has no `closes_at` until it is told again.
    Returns: None if no period begins or ends elsewhere than before.
    """
    locks.lock(session, tenant_id)
    rows = session.scalars(
        select(BillingPeriod)
        .where(
            BillingPeriod.tenant_id == tenant_id,
            BillingPeriod.customer_ref == customer_ref,
            BillingPeriod.metric == metric,
        )
        .order_by(BillingPeriod.start_at)
        .execution_options(populate_existing=True)
    ).all()
    redrawn = timetable.redrawn(rows, wanted, now=now)
    fixed = [_span(row) for row in rows if timetable.is_fixed(row, now)]
    before = {_span(row) for row in rows if not timetable.is_fixed(row, now)}
    after = {_span(period) for period in redrawn}
    _write(session, (tenant_id, customer_ref, metric), rows, redrawn, now)
    changed = before ^ after
    if not changed:
        return None
    span = _touched(changed, [*fixed, *after])
    mover = Mover(session, tenant_id, customer_ref, metric, now)
    free = list(timetable.without(span, [*fixed, *(before & after)]))
    mover.move(free, {edge for one in changed for edge in (one.start_at, one.end_at)})
    return Moved(span)


def _span(row: Bounded) -> Span:
    return Span(row.start_at.astimezone(UTC), row.end_at.astimezone(UTC))


def _touched(changed: Iterable[Span], spans: Sequence[Span]) -> Span:
    """All that changed, and the calendar months beside it, which became shorter or longer."""
    start_at = min(span.start_at for span in changed)
    end_at = max(span.end_at for span in changed)
    ahead, behind = span_at(spans, start_at - _INSTANT), span_at(spans, end_at)
    return Span(
        start_at if ahead in spans else ahead.start_at, end_at if behind in spans else behind.end_at
    )


def _write(
    session: Session,
    key: tuple[str, str, str],
    rows: Sequence[BillingPeriod],
    redrawn: Sequence[PlannedPeriod],
    now: datetime,
) -> None:
    known = {row.start_at: row for row in rows if not timetable.is_fixed(row, now)}
    for period in redrawn:
        row = known.pop(period.start_at, None)
        if row is None:
            tenant_id, customer_ref, metric = key
            row = BillingPeriod(
                tenant_id=tenant_id,
                customer_ref=customer_ref,
                metric=metric,
                start_at=period.start_at,
                end_at=period.end_at,
            )
            session.add(row)
        elif row.end_at != period.end_at:
            row.end_at, row.closes_at = period.end_at, None
        row.item_id, row.mode = period.item_id, period.mode
    for row in known.values():
        session.delete(row)
    session.flush()
