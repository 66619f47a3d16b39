"""A customer's billing periods: how far each one is, and what came too late for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from metering.catalog import period_sql
from metering.catalog.period import Span
from metering.counters.models import Adjustment

State = Literal["open", "closing", "closed"]
STATES = ("open", "closing", "closed")
# Where a page ended: a period's start, and its metric.
Place = tuple[datetime, str]


def state_of(span: Span, closed_at: datetime | None, *, now: datetime) -> State:
    """`open` until it ends; `closing` while late usage still counts; `closed`."""
    if closed_at is not None:
        return "closed"
    return "open" if now < span.end_at else "closing"


@dataclass(frozen=True)
class Listed:
    """One billing period of one metric.

    is_bound:  to a subscription; else it is a calendar month that never closes.
    closes_at: from when on its events are set aside; None: not known yet, or never.
    closed_at: since when it is closed.  final_at: since when its invoice is.
    set_aside: events that came too late for it, decided or not.
    pending:   adjustments of it that nobody has decided on.
    """

    metric: str
    span: Span
    state: State
    is_bound: bool
    closes_at: datetime | None
    closed_at: datetime | None
    invoice_id: str | None
    final_at: datetime | None
    set_aside: int
    pending: int

    @property
    def place(self) -> Place:
        return self.span.start_at, self.metric

    @property
    def effective_lateness_seconds(self) -> int | None:
        """For how long after the period's end usage counts in it."""
        if self.closes_at is None:
            return None
        return int((self.closes_at - self.span.end_at).total_seconds())


# Periods that are told of and have begun, and all in which anything was counted or came too late.
_PAGE = f"""
WITH named AS MATERIALIZED (
    SELECT metric, start_at FROM billing_periods
    WHERE tenant_id = %(tenant_id)s AND customer_ref = %(customer_ref)s AND start_at <= %(now)s
    UNION
    SELECT metric, period_start FROM counters
    WHERE tenant_id = %(tenant_id)s AND customer_ref = %(customer_ref)s
    UNION
    SELECT metric, period_start FROM set_aside
    WHERE tenant_id = %(tenant_id)s AND customer_ref = %(customer_ref)s
    UNION
    SELECT metric, period_start FROM adjustments
    WHERE tenant_id = %(tenant_id)s AND customer_ref = %(customer_ref)s
), page AS MATERIALIZED (
    SELECT metric, start_at FROM named
    WHERE (%(metric)s::text IS NULL OR metric = %(metric)s)
      AND (%(after_at)s::timestamptz IS NULL OR start_at < %(after_at)s
           OR start_at = %(after_at)s AND metric > %(after_metric)s)
    ORDER BY start_at DESC, metric LIMIT %(limit)s
), dated AS MATERIALIZED (
    SELECT p.metric, p.start_at,
           {period_sql.begun("%(customer_ref)s", "p.metric", "p.start_at")} AS begun
    FROM page p
)
SELECT d.metric, d.start_at, d.is_held,
       {period_sql.end("d.begun", "%(customer_ref)s", "d.metric", "d.start_at")} AS end_at,
       CASE WHEN d.is_held THEN (d.begun).closes_at ELSE calendar.closes_at END AS closes_at,
       CASE WHEN d.is_held THEN coalesce((d.begun).closed_at, (d.begun).final_at)
            ELSE calendar.closed_at END AS closed_at,
       CASE WHEN d.is_held THEN (d.begun).invoice_id END AS invoice_id,
       CASE WHEN d.is_held THEN (d.begun).final_at END AS final_at,
       (SELECT count(*) FROM set_aside
        WHERE tenant_id = %(tenant_id)s AND customer_ref = %(customer_ref)s
          AND metric = d.metric AND period_start = d.start_at) AS set_aside,
       (SELECT count(*) FROM adjustments
        WHERE tenant_id = %(tenant_id)s AND customer_ref = %(customer_ref)s
          AND metric = d.metric AND period_start = d.start_at AND status = 'pending') AS pending
FROM (
    SELECT metric, start_at, begun,
           {period_sql.is_held("begun", "start_at")} IS TRUE AS is_held
    FROM dated OFFSET 0
) AS d
LEFT JOIN LATERAL (
    SELECT closes_at, closed_at FROM periods
    WHERE tenant_id = %(tenant_id)s AND schedule = 'calendar'
      AND start_at = {period_sql.month("d.start_at")}
    OFFSET 0
) AS calendar ON NOT d.is_held
ORDER BY d.start_at DESC, d.metric
"""


def page(
    session: Session,
    tenant_id: str,
    customer_ref: str,
    *,
    metric: str | None = None,
    after: Place | None = None,
    limit: int,
    now: datetime,
) -> Sequence[Listed]:
    """The customer's billing periods, the newest first; those of one start by metric."""
    after_at, after_metric = after or (None, None)
    parameters = {
        "tenant_id": tenant_id,
        "customer_ref": customer_ref,
        "metric": metric,
        "after_at": after_at,
        "after_metric": after_metric,
        "limit": limit,
        "now": now,
    }
    rows = session.connection().exec_driver_sql(_PAGE, parameters)
    return [_listed(row, now) for row in rows]


def _listed(row: Any, now: datetime) -> Listed:
    span = Span(row.start_at.astimezone(UTC), row.end_at.astimezone(UTC))
    return Listed(
        metric=row.metric,
        span=span,
        state=state_of(span, row.closed_at, now=now),
        is_bound=row.is_held,
        closes_at=row.closes_at,
        closed_at=row.closed_at,
        invoice_id=row.invoice_id,
        final_at=row.final_at,
        set_aside=row.set_aside,
        pending=row.pending,
    )


def pending(session: Session, tenant_id: str, customer_ref: str) -> int:
    """How many adjustments of a customer nobody has decided on."""
    return session.scalars(
        select(func.count())
        .select_from(Adjustment)
        .where(
            Adjustment.tenant_id == tenant_id,
            Adjustment.customer_ref == customer_ref,
            Adjustment.status == "pending",
        )
    ).one()
