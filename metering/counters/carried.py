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

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.catalog import metrics
from metering.catalog.period import Span
from metering.counters import corrections, usage
from metering.counters.adjustments import write_down
from metering.counters.models import Adjustment, SetAside
from metering.counters.proposals import ACTOR
from metering.database import taken_back
from metering.ledger.read import at_key
from pricing.numbers import EXACT, ZERO

# Billed outside the meter: what is carried after it comes on top of it.
_BILLED = ("carry_forward", "invoice_item", "credit_note")


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
    key = tenant_id, customer_ref, metric
    billed = _billed(session, *key, [span])
    if not any(one.disposition == "carry_forward" for one in billed):
        return
    spans = _spans(session, *key, billed)
    billed = _billed(session, *key, spans)
    worth = _worth(session, billed, spans, now)
    for one, units in zip(billed, worth, strict=True):
        if one.disposition == "carry_forward" and one.carried != units:
            if one.carried is not None:
                note = f"it carries {units:f} instead of {one.carried:f}"
                write_down(session, one, "change", ACTOR, note, now)
            one.carried = units
            _refresh_target(session, one, now)


# Sums and counts are worth the same, whatever else is counted.
_TOUCHED = """
SELECT DISTINCT c.customer_ref, c.metric, c.period_start, c.period_end
FROM adjustments j
JOIN metrics m ON m.tenant_id = %(tenant_id)s AND m.metric = j.metric
    AND m.aggregation IN ('max', 'last', 'unique')
CROSS JOIN LATERAL (
    SELECT customer_ref, metric, period_start, period_end FROM counters
    WHERE tenant_id = %(tenant_id)s AND customer_ref = j.customer_ref AND metric = j.metric
      AND period_start = j.period_start AND folded_at = %(now)s OFFSET 0
) AS c
WHERE j.tenant_id = %(tenant_id)s AND j.status = 'approved'
  AND j.disposition = 'carry_forward' AND j.kind = 'events'
"""


def follow(session: Session, tenant_id: str, *, now: datetime) -> None:
    """After a fold: what was counted into a period that is still open may be more than what was
    carried out of it. now: of the fold."""
    parameters = {"tenant_id": tenant_id, "now": now}
    for row in session.connection().exec_driver_sql(_TOUCHED, parameters).all():
        span = Span(row.period_start.astimezone(UTC), row.period_end.astimezone(UTC))
        bring_up(session, tenant_id, row.customer_ref, row.metric, span, now=now)


def of_one(session: Session, one: Adjustment, *, now: datetime) -> Decimal:
    """What the events of one adjustment would come to, decided last. Changes nothing."""
    key = one.tenant_id, one.customer_ref, one.metric
    spans = _spans(session, *key, [one])
    before = [each for each in _billed(session, *key, spans) if each is not one]
    return _worth(session, [*before, one], _spans(session, *key, [*before, one]), now)[-1]


def _billed(
    session: Session, tenant_id: str, customer_ref: str, metric: str, spans: Sequence[Span]
) -> Sequence[Adjustment]:
    """Those of late events of these periods that are billed elsewhere, in the order of decision."""
    parameters = {
        "tenant_id": tenant_id,
        "customer_ref": customer_ref,
        "metric": metric,
        "starts": [span.start_at for span in spans],
        "ends": [span.end_at for span in spans],
    }
    ids = session.connection().exec_driver_sql(_IDS, parameters).scalars().all()
    if not ids:
        return []
    return session.scalars(
        select(Adjustment)
        .where(
            Adjustment.tenant_id == tenant_id,
            Adjustment.adjustment_id.in_(ids),
            Adjustment.status == "approved",
            Adjustment.disposition.in_(_BILLED),
        )
        .order_by(Adjustment.decided_at, Adjustment.adjustment_id)
        .execution_options(populate_existing=True)
    ).all()


# Since it was decided its events may have come to lie in several periods.
_IDS = """
SELECT DISTINCT a.adjustment_id
FROM unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[]) AS w (start_at, end_at)
JOIN set_aside a ON a.tenant_id = %(tenant_id)s AND a.customer_ref = %(customer_ref)s
    AND a.metric = %(metric)s AND a.period_start >= w.start_at AND a.period_start < w.end_at
WHERE a.adjustment_id IS NOT NULL
"""


def _spans(
    session: Session,
    tenant_id: str,
    customer_ref: str,
    metric: str,
    many: Sequence[Adjustment],
) -> list[Span]:
    """The periods in which their events lie."""
    starts = session.scalars(
        select(SetAside.period_start)
        .where(
            SetAside.tenant_id == tenant_id,
            SetAside.adjustment_id.in_([one.adjustment_id for one in many]),
        )
        .distinct()
    ).all()
    key = tenant_id, customer_ref, metric
    return sorted({corrections.period_at(session, *key, at.astimezone(UTC)) for at in starts})


def _worth(
    session: Session, order: Sequence[Adjustment], spans: Sequence[Span], now: datetime
) -> list[Decimal]:
    """What each adds to the periods' totals on top of those before it."""
    aggregation = metrics.get(session, order[0].tenant_id, order[0].metric).aggregation
    if aggregation in ("sum", "count"):
        return _sums(session, order, aggregation)
    if aggregation in ("max", "last"):
        return _rises(session, order, spans, aggregation)
    return _tried(session, order, spans, now)


_SUMS = """
SELECT w.adjustment_id, count(a.quantity) AS events, coalesce(sum(a.quantity), 0) AS sum
FROM unnest(%(ids)s::text[]) AS w (adjustment_id)
LEFT JOIN LATERAL (
    SELECT quantity FROM set_aside
    WHERE tenant_id = %(tenant_id)s AND adjustment_id = w.adjustment_id
      AND NOT EXISTS (SELECT 1 FROM voids v WHERE v.tenant_id = %(tenant_id)s
                      AND v.idempotency_key = set_aside.idempotency_key)
    OFFSET 0
) AS a ON true
GROUP BY 1
"""


def _sums(session: Session, order: Sequence[Adjustment], aggregation: str) -> list[Decimal]:
    """Where nothing depends on anything else."""
    ids = [one.adjustment_id for one in order]
    parameters = {"tenant_id": order[0].tenant_id, "ids": ids}
    rows = session.connection().exec_driver_sql(_SUMS, parameters)
    found = {
        row.adjustment_id: Decimal(row.sum if aggregation == "sum" else row.events)
        for row in rows.all()
    }
    return [found[each] for each in ids]


_GREATEST = f"""
SELECT a.adjustment_id, a.period_start, max(e.quantity) AS max_value,
       (array_agg(e.quantity ORDER BY e.occurred_at DESC, e.idempotency_key DESC))[1]
           AS last_value,
       max(e.occurred_at) AS last_occurred_at,
       (array_agg(e.idempotency_key ORDER BY e.occurred_at DESC, e.idempotency_key DESC))[1]
           AS last_key
FROM (SELECT idempotency_key, adjustment_id, period_start FROM set_aside
      WHERE tenant_id = %(tenant_id)s AND adjustment_id = ANY(%(ids)s::text[])
        AND NOT EXISTS (SELECT 1 FROM voids v WHERE v.tenant_id = %(tenant_id)s
                        AND v.idempotency_key = set_aside.idempotency_key)) AS a
CROSS JOIN LATERAL (
    SELECT idempotency_key, quantity, occurred_at FROM events
    WHERE tenant_id = %(tenant_id)s AND {at_key("a.idempotency_key")}
) AS e
GROUP BY 1, 2
"""
_BASE = """
SELECT max_value, last_value, last_occurred_at, last_key FROM used_counters
WHERE tenant_id = %(tenant_id)s AND customer_ref = %(customer_ref)s AND metric = %(metric)s
  AND period_start = %(period_start)s
"""


def _rises(
    session: Session, order: Sequence[Adjustment], spans: Sequence[Span], aggregation: str
) -> list[Decimal]:
    """By how much each raises the greatest or the latest value, which none of them has yet. Deltas
    are the same before and after."""
    connection, one = session.connection(), order[0]
    parameters = {"tenant_id": one.tenant_id, "ids": [each.adjustment_id for each in order]}
    found = {
        (row.adjustment_id, row.period_start): row
        for row in connection.exec_driver_sql(_GREATEST, parameters)
    }
    rises = [ZERO for _ in order]
    for span in spans:
        key = {
            "tenant_id": one.tenant_id,
            "customer_ref": one.customer_ref,
            "metric": one.metric,
            "period_start": span.start_at,
        }
        row = connection.exec_driver_sql(_BASE, key).first()
        at = row.last_occurred_at and (row.last_occurred_at, row.last_key) if row else None
        if aggregation == "max":
            value = (row.max_value if row else None) or ZERO
        elif at is not None and row is not None:
            value = row.last_value
        else:
            # Nothing of its own: what a gauge carries over, without the period's deltas.
            value = usage.stood(session, one.tenant_id, one.customer_ref, one.metric, span.start_at)
        for number, each in enumerate(order):
            late = found.get((each.adjustment_id, span.start_at))
            if late is None:
                continue
            new = value
            if aggregation == "max":
                new = max(value, late.max_value)
            elif at is None or (late.last_occurred_at, late.last_key.encode()) > (
                at[0], at[1].encode(),
            ):  # fmt: skip
                new, at = late.last_value, (late.last_occurred_at, late.last_key)
            rises[number] = EXACT.add(rises[number], EXACT.subtract(new, value))
            value = new
    return rises


def _tried(
    session: Session, order: Sequence[Adjustment], spans: Sequence[Span], now: datetime
) -> list[Decimal]:
    """By applying one after the other under a savepoint, which is exact for every aggregation."""
    totals: list[Decimal] = []
    with taken_back(session):
        for one in order:
            # Carried into this very period, it must not be its own base.
            one.status, one.disposition = "declined", None
            one.carried = one.segment_start = None
        totals.append(_total(session, order[0], spans, now))
        for one in order:
            one.status, one.disposition = "approved", "apply"
            totals.append(_total(session, one, spans, now))
    for one in order:
        session.refresh(one)
    return [EXACT.subtract(after, before) for before, after in pairwise(totals)]


def _total(session: Session, of: Adjustment, spans: Sequence[Span], now: datetime) -> Decimal:
    key, total = (of.tenant_id, of.customer_ref, of.metric), ZERO
    for span in spans:
        corrections.refresh(session, *key, span, now=now)
        total = EXACT.add(total, usage.total(session, *key, span.start_at))
    return total


def _refresh_target(session: Session, one: Adjustment, now: datetime) -> None:
    if one.segment_start is None:
        return
    key = one.tenant_id, one.customer_ref, one.metric
    target = corrections.period_at(session, *key, one.segment_start.astimezone(UTC))
    corrections.refresh(session, *key, target, now=now)
