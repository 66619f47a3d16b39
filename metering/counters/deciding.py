"""Decide adjustments: approve, decline, revert; and what each would do, before it is decided.

Every decision is one transaction under the tenant's lock, so that two people who press at once are
told apart, and corrected totals never lag behind a decision.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from metering.catalog import metrics
from metering.catalog.models import BillingPeriod, MetricMapping
from metering.catalog.period import Span, hour_of
from metering.counters import carried, corrections, usage
from metering.counters.adjustments import COUNTED, DISPOSITIONS, check_note, get, write_down
from metering.counters.models import Adjustment, SetAside
from metering.database import taken_back
from metering.errors import ConflictError, InvalidInputError
from metering.tenancy import locks
from pricing.numbers import EXACT

_INSTANT = timedelta(microseconds=1)


def approve(
    session: Session,
    tenant_id: str,
    adjustment_id: str,
    *,
    disposition: str = "apply",
    note: str | None = None,
    actor: str,
    now: datetime,
) -> Adjustment:
    """Decide that it counts, or how else it is settled. One that was declined or reverted may be
    approved after all.

    Raises: ConflictError where it is approved already, where its invoice is final and it is to be
            applied all the same, where it cannot be carried forward as one number, and where the
            total would be less than nothing.
    """
    if disposition not in DISPOSITIONS:
        raise InvalidInputError(f"must be one of {', '.join(DISPOSITIONS)}", pointer="/disposition")
    adjustment = _decide(session, tenant_id, adjustment_id, note)
    if adjustment.status == "approved":
        raise ConflictError(f"it was approved by {adjustment.decided_by} already")
    if disposition == "apply":
        _check_appliable(session, adjustment)
    adjustment.decided_at, adjustment.decided_by = now, actor
    _approve(session, adjustment, disposition, now)
    write_down(session, adjustment, f"approve: {disposition}", actor, note, now)
    return adjustment


def decline(
    session: Session,
    tenant_id: str,
    adjustment_id: str,
    *,
    note: str | None = None,
    actor: str,
    now: datetime,
) -> Adjustment:
    """Decide that it does not count. Raises: ConflictError unless it is pending."""
    adjustment = _decide(session, tenant_id, adjustment_id, note)
    if adjustment.status != "pending":
        way_out = ": revert it instead" if adjustment.status == "approved" else ""
        raise ConflictError(f"it is {adjustment.status}, not pending{way_out}")
    adjustment.status = "declined"
    adjustment.decided_at, adjustment.decided_by = now, actor
    write_down(session, adjustment, "decline", actor, note, now)
    return adjustment


def revert(
    session: Session,
    tenant_id: str,
    adjustment_id: str,
    *,
    note: str | None = None,
    actor: str,
    now: datetime,
) -> Adjustment:
    """Take an approval back, exactly once. Raises: ConflictError unless it is approved."""
    adjustment = _decide(session, tenant_id, adjustment_id, note)
    if adjustment.status != "approved":
        raise ConflictError(f"it is {adjustment.status}, not approved")
    spans = _spans(session, adjustment)
    adjustment.status = "reverted"
    adjustment.decided_at, adjustment.decided_by = now, actor
    _refresh(session, adjustment, spans, now)
    _bring_up_carried(session, adjustment, now)
    _check_totals(session, adjustment, spans)
    write_down(session, adjustment, "revert", actor, note, now)
    return adjustment


def _decide(session: Session, tenant_id: str, adjustment_id: str, note: str | None) -> Adjustment:
    check_note(note)
    locks.lock(session, tenant_id)
    return get(session, tenant_id, adjustment_id)


def _check_appliable(session: Session, adjustment: Adjustment) -> None:
    others = "carry_forward, invoice_item, credit_note or write_off"
    if adjustment.origin == "unbilled":
        raise ConflictError(
            f"Stripe and the total have it already, only no invoice: choose {others}",
            pointer="/disposition",
        )
    invoice = _final_invoice(session, adjustment)
    if invoice is not None:
        raise ConflictError(
            f"the invoice {invoice.invoice_id} of this period has been final since"
            f" {invoice.final_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC and can bill nothing more:"
            f" choose {others}",
            pointer="/disposition",
        )


def why_not_carried(session: Session, adjustment: Adjustment, *, now: datetime) -> str | None:
    """Why it cannot be carried forward just now, in words; None: it can."""
    own = _span_at(session, adjustment, adjustment.period_start)
    is_current = _current(session, adjustment, now) == own
    if adjustment.origin == "unbilled" and is_current:
        return (
            "its period is the current one, and the total has it already: choose invoice_item,"
            " credit_note or write_off"
        )
    if adjustment.kind == "delta":
        return None
    if is_current and _final_invoice(session, adjustment) is None:
        return "its period is the current one: apply it there"
    read_by = metrics.get(session, adjustment.tenant_id, adjustment.metric).aggregation
    billed_by = _billed_otherwise(session, adjustment, read_by)
    if billed_by is None:
        return None
    # One number for all readings: 50 late units below the maximum are 50 of a sum and nothing of
    # the maximum that is billed.
    return (
        f"the metric is read by {read_by} and billed by {billed_by}: what would be carried forward"
        " is not the same for both. Choose invoice_item, credit_note or write_off"
    )


def _billed_otherwise(session: Session, adjustment: Adjustment, read_by: str) -> str | None:
    """By what else a mapping reads the metric, in the adjustment's period or later."""
    return session.scalar(
        select(MetricMapping.aggregation)
        .where(
            MetricMapping.tenant_id == adjustment.tenant_id,
            MetricMapping.metric == adjustment.metric,
            MetricMapping.aggregation != read_by,
            or_(
                MetricMapping.customer_ref.is_(None),
                MetricMapping.customer_ref == adjustment.customer_ref,
            ),
            or_(
                MetricMapping.effective_until.is_(None),
                MetricMapping.effective_until > adjustment.period_start,
            ),
        )
        .limit(1)
    )


def _final_invoice(session: Session, adjustment: Adjustment) -> Any:
    """The invoice that bills its period for good, and since when; None: nothing is final."""
    return session.execute(
        select(BillingPeriod.invoice_id, BillingPeriod.final_at).where(
            BillingPeriod.tenant_id == adjustment.tenant_id,
            BillingPeriod.customer_ref == adjustment.customer_ref,
            BillingPeriod.metric == adjustment.metric,
            BillingPeriod.start_at == adjustment.period_start,
            BillingPeriod.final_at.is_not(None),
        )
    ).first()


def _approve(session: Session, adjustment: Adjustment, disposition: str, now: datetime) -> None:
    adjustment.segment_start = adjustment.carried = None
    own = _span_at(session, adjustment, adjustment.period_start)
    if disposition == "carry_forward":
        refused = why_not_carried(session, adjustment, now=now)
        if refused is not None:
            raise ConflictError(refused, pointer="/disposition")
        if adjustment.kind == "delta":
            adjustment.carried = adjustment.delta
        adjustment.segment_start = _hour_within(_current(session, adjustment, now), now)
    elif disposition == "apply" and adjustment.kind == "delta":
        adjustment.segment_start = _hour_within(own, now)
    adjustment.status, adjustment.disposition = "approved", disposition
    spans = _spans(session, adjustment)
    _refresh(session, adjustment, spans, now)
    _bring_up_carried(session, adjustment, now)
    _check_totals(session, adjustment, spans)


def _bring_up_carried(session: Session, adjustment: Adjustment, now: datetime) -> None:
    """What it carries, and what others of its period do, follows from what was decided of it."""
    if adjustment.kind == "events":
        own = _span_at(session, adjustment, adjustment.period_start)
        key = adjustment.tenant_id, adjustment.customer_ref, adjustment.metric
        carried.bring_up(session, *key, own, now=now)


@dataclass(frozen=True)
class Effect:
    """What the total of an adjustment's period is without it, and what it is or would be with it
    applied; by the metric's own aggregation."""

    without: Decimal
    applied: Decimal

    @property
    def difference(self) -> Decimal:
        return EXACT.subtract(self.applied, self.without)


def effect(
    session: Session,
    tenant_id: str,
    adjustment_id: str,
    *,
    aggregation: str | None = None,
    now: datetime,
) -> Effect:
    """What it does to its period's total, or would if it were applied. Changes nothing.

    aggregation: None: the metric's own.
    """
    with taken_back(session):
        locks.lock(session, tenant_id)
        adjustment = get(session, tenant_id, adjustment_id)
        return _effect(session, adjustment, now, aggregation)


def worth_carrying(
    session: Session, tenant_id: str, adjustment_id: str, *, now: datetime
) -> Decimal:
    """What it would count if it were carried forward now: on top of what of its period is billed
    elsewhere already. Changes nothing."""
    with taken_back(session):
        locks.lock(session, tenant_id)
        adjustment = get(session, tenant_id, adjustment_id)
        return carried.of_one(session, adjustment, now=now)


def _effect(
    session: Session, adjustment: Adjustment, now: datetime, aggregation: str | None = None
) -> Effect:
    """By trying both under a savepoint: whatever the aggregation, it is exact."""
    read = []
    own = _span_at(session, adjustment, adjustment.period_start)
    with taken_back(session):
        for status, disposition in (("declined", None), ("approved", "apply")):
            adjustment.status, adjustment.disposition = status, disposition
            adjustment.carried = None
            is_number = adjustment.kind == "delta" and status == "approved"
            adjustment.segment_start = _hour_within(own, now) if is_number else None
            _refresh(session, adjustment, [own], now)
            read.append(_total(session, adjustment, own, aggregation))
    session.refresh(adjustment)
    return Effect(*read)


def _total(
    session: Session, adjustment: Adjustment, span: Span, aggregation: str | None = None
) -> Decimal:
    key = adjustment.tenant_id, adjustment.customer_ref, adjustment.metric
    return usage.total(session, *key, span.start_at, aggregation=aggregation)


def _check_totals(session: Session, adjustment: Adjustment, spans: Sequence[Span]) -> None:
    """No number that people approve makes a total less than nothing."""
    for span in spans:
        total = _total(session, adjustment, span)
        if total < 0:
            raise ConflictError(
                f"the total of {adjustment.metric} in the period from"
                f" {span.start_at.astimezone(UTC):%Y-%m-%d} would be {total:f}, less than nothing"
            )


def _current(session: Session, adjustment: Adjustment, now: datetime) -> Span:
    return _span_at(session, adjustment, now)


def _span_at(session: Session, adjustment: Adjustment, instant: datetime) -> Span:
    return corrections.period_at(
        session, adjustment.tenant_id, adjustment.customer_ref, adjustment.metric, instant
    )


def _hour_within(span: Span, now: datetime) -> datetime:
    """The latest hour of the period that has begun: where a number counts, so that Stripe is told
    of it with a stamp that is neither ahead nor older than it must be."""
    return max(hour_of(min(now, span.end_at - _INSTANT)), span.start_at)


def _spans(session: Session, adjustment: Adjustment) -> list[Span]:
    """The periods whose totals an approved adjustment is part of."""
    if adjustment.disposition not in COUNTED:
        return []
    instants = {adjustment.segment_start} if adjustment.segment_start is not None else set()
    if adjustment.kind == "events" and adjustment.disposition == "apply":
        instants = set(
            session.scalars(
                select(SetAside.period_start)
                .where(
                    SetAside.tenant_id == adjustment.tenant_id,
                    SetAside.adjustment_id == adjustment.adjustment_id,
                )
                .distinct()
            )
        )
    return sorted({_span_at(session, adjustment, instant) for instant in instants})


def _refresh(
    session: Session, adjustment: Adjustment, spans: Sequence[Span], now: datetime
) -> None:
    for span in spans:
        corrections.refresh(
            session,
            adjustment.tenant_id,
            adjustment.customer_ref,
            adjustment.metric,
            span,
            now=now,
        )
