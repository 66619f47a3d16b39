"""What is carried forward comes to what the events add that nothing else has billed.

Late events of a closed period count in a later one as a number: what they would add to the total of
their own period, were they applied there. The largest of two late events raises a maximum once, so
that each is worth what it adds on top of those decided before it; and a void of one of them, or an
application of others, changes what the rest are worth. The numbers therefore follow from the events
and the decisions, and are made anew with each decision about the period.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from metering.catalog import metrics
from metering.catalog.period import Span
from metering.counters import corrections, usage
from metering.counters.models import Adjustment, AdjustmentStep
from metering.counters.proposals import ACTOR
from pricing.numbers import EXACT

# Billed outside the meter: what is carried after it comes on top of it.
_BILLED = ("carry_forward", "invoice_item", "credit_note")


class _TriedError(Exception):
    """Ends a trial: what was tried is rolled back."""


def bring_up(
    session: Session,
    tenant_id: str,
    customer_ref: str,
    metric: str,
    span: Span,
    *,
    now: datetime,
) -> None:
    """Make anew what the events of a billing period that were carried forward come to.

    Under the tenant's lock, after the corrected rows of the period itself were made anew.
    """
    session.flush()
    billed = _billed(session, tenant_id, customer_ref, metric, span)
    if not any(one.disposition == "carry_forward" for one in billed):
        return
    worth = _worth(session, billed, span, now)
    for one, units in zip(billed, worth, strict=True):
        if one.disposition == "carry_forward" and one.carried != units:
            if one.carried is not None:
                _write_down(session, one, f"it carries {units:f} instead of {one.carried:f}", now)
            one.carried = units
            _refresh_target(session, one, now)


def of_one(session: Session, one: Adjustment, span: Span, *, now: datetime) -> Decimal:
    """What the events of one adjustment would come to, decided last. Changes nothing."""
    key = one.tenant_id, one.customer_ref, one.metric
    before = [each for each in _billed(session, *key, span) if each is not one]
    return _worth(session, [*before, one], span, now)[-1]


def _billed(
    session: Session, tenant_id: str, customer_ref: str, metric: str, span: Span
) -> Sequence[Adjustment]:
    """Those of late events of the period that are billed elsewhere, in the order of decision."""
    return session.scalars(
        select(Adjustment)
        .where(
            Adjustment.tenant_id == tenant_id,
            Adjustment.customer_ref == customer_ref,
            Adjustment.metric == metric,
            Adjustment.period_start >= span.start_at,
            Adjustment.period_start < span.end_at,
            Adjustment.kind == "events",
            Adjustment.status == "approved",
            Adjustment.disposition.in_(_BILLED),
        )
        .order_by(Adjustment.decided_at, Adjustment.adjustment_id)
    ).all()


def _worth(
    session: Session, order: Sequence[Adjustment], span: Span, now: datetime
) -> list[Decimal]:
    """What each adds to the period's total on top of those before it."""
    aggregation = metrics.get(session, order[0].tenant_id, order[0].metric).aggregation
    if aggregation in ("sum", "count"):
        return _sums(session, order, span, aggregation)
    return _tried(session, order, span, now)


_SUMS = """
SELECT w.adjustment_id, count(a.quantity) AS events, coalesce(sum(a.quantity), 0) AS sum
FROM unnest(%(ids)s::text[]) AS w (adjustment_id)
LEFT JOIN LATERAL (
    SELECT quantity FROM set_aside
    WHERE tenant_id = %(tenant_id)s AND adjustment_id = w.adjustment_id
      AND period_start >= %(start_at)s AND period_start < %(end_at)s
      AND NOT EXISTS (SELECT 1 FROM voids v WHERE v.tenant_id = %(tenant_id)s
                      AND v.idempotency_key = set_aside.idempotency_key)
    OFFSET 0
) AS a ON true
GROUP BY 1
"""


def _sums(
    session: Session, order: Sequence[Adjustment], span: Span, aggregation: str
) -> list[Decimal]:
    """Where nothing depends on anything else."""
    parameters = {
        "tenant_id": order[0].tenant_id,
        "ids": [one.adjustment_id for one in order],
        "start_at": span.start_at,
        "end_at": span.end_at,
    }
    rows = session.connection().exec_driver_sql(_SUMS, parameters)
    found = {
        row.adjustment_id: Decimal(row.sum if aggregation == "sum" else row.events)
        for row in rows.all()
    }
    return [found[one.adjustment_id] for one in order]


def _tried(
    session: Session, order: Sequence[Adjustment], span: Span, now: datetime
) -> list[Decimal]:
    """By applying one after the other under a savepoint, which is exact for every aggregation."""
    totals: list[Decimal] = []
    try:
        with session.begin_nested():
            for one in order:
                # Carried into this very period, it must not be its own base.
                one.status, one.disposition = "declined", None
                one.carried = one.segment_start = None
            totals.append(_total(session, order[0], span, now))
            for one in order:
                one.status, one.disposition = "approved", "apply"
                totals.append(_total(session, one, span, now))
            raise _TriedError
    except _TriedError:
        for one in order:
            session.refresh(one)
    return [EXACT.subtract(after, before) for before, after in pairwise(totals)]


def _total(session: Session, of: Adjustment, span: Span, now: datetime) -> Decimal:
    key = of.tenant_id, of.customer_ref, of.metric
    corrections.refresh(session, *key, span, now=now)
    return usage.total(session, *key, span.start_at)


def _refresh_target(session: Session, one: Adjustment, now: datetime) -> None:
    if one.segment_start is None:
        return
    key = one.tenant_id, one.customer_ref, one.metric
    target = corrections.period_at(session, *key, one.segment_start.astimezone(UTC))
    corrections.refresh(session, *key, target, now=now)


def _write_down(session: Session, one: Adjustment, note: str, now: datetime) -> None:
    latest = session.scalar(
        select(func.max(AdjustmentStep.number)).where(
            AdjustmentStep.tenant_id == one.tenant_id,
            AdjustmentStep.adjustment_id == one.adjustment_id,
        )
    )
    session.add(
        AdjustmentStep(
            tenant_id=one.tenant_id,
            adjustment_id=one.adjustment_id,
            number=(latest or 0) + 1,
            action="change",
            actor=ACTOR,
            note=note,
            taken_at=now,
        )
    )
    session.flush()
