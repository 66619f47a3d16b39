"""Until when usage still reaches an invoice: what a period's closing follows.

A period closes when its metric's lateness is over, or 15 minutes before Stripe finalizes its
invoice if that is earlier. While the closing lies ahead it may be moved, only to an instant that
lies ahead too. Once we know that the invoice is final, the period is closed: what was folded by
then counts, what commits later is set aside.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.orm import Session

from metering.catalog.mirror import StripeInvoice, SubscriptionItem
from metering.catalog.models import BillingPeriod, Metric
from metering.catalog.period import Span
from metering.counters import fold
from metering.stripe import sync, unsent
from metering.stripe.answers import Invoice
from metering.stripe.sync import Place
from metering.tenancy import locks

# How long before Stripe finalizes an invoice nothing more is counted: the last deltas must be
# sent, and counted there.
BEFORE_FINAL = timedelta(minutes=15)
# The nearest a closing is moved to, so that it still lies ahead when this has committed.
AHEAD = timedelta(minutes=1)
# Of a metric that is not described: as the table has it.
LATENESS = timedelta(hours=48)
DELETED = "deleted"
FINAL = ("open", "paid", "uncollectible", "void")


def note(
    session: Session, place: Place, told: Sequence[Invoice], *, asked_at: datetime, now: datetime
) -> int:
    """Write down what Stripe says of invoices, and what follows for the periods that they bill.

    asked_at: when Stripe was asked; an older answer changes nothing.
    Returns:  how many periods they bill.
    """
    if not told:
        return 0
    locks.lock(session, place.tenant_id)
    written = sync.note_invoices(session, place, told, now=asked_at)
    spans = {invoice.id: _spans(invoice) for invoice in told}
    rows = _rows(session, place, StripeInvoice.invoice_id.in_(written))
    return sum(_apply(session, row, spans[row.invoice_id], now) for row in rows)


def note_gone(session: Session, place: Place, invoice_id: str, *, asked_at: datetime) -> None:
    """A draft was deleted: another invoice will bill its periods, or none."""
    locks.lock(session, place.tenant_id)
    sync.note_gone(session, place, "invoice", invoice_id, now=asked_at)
    session.execute(
        update(BillingPeriod)
        .where(
            BillingPeriod.tenant_id == place.tenant_id,
            BillingPeriod.mode == place.mode,
            BillingPeriod.invoice_id == invoice_id,
            BillingPeriod.final_at.is_(None),
        )
        .values(invoice_id=None)
        .execution_options(synchronize_session=False)
    )


def apply_known(session: Session, place: Place, subscription_id: str, *, now: datetime) -> int:
    """Tell periods that have just become known when they close, and of the invoices that were
    known before them. Returns: how many periods those bill."""
    locks.lock(session, place.tenant_id)
    rows = _rows(session, place, StripeInvoice.subscription_id == subscription_id)
    billed = sum(_apply(session, row, {}, now) for row in rows)
    plan_closings(session, place.tenant_id, _items(session, place, subscription_id), now=now)
    return billed


# A closing that would lie behind us is not planned: only the invoice can tell of such a period.
_PLAN = """
UPDATE billing_periods p SET closes_at = greatest(
    least(p.end_at + make_interval(secs => coalesce(told.lateness_seconds, %(lateness)s)),
          told.finalizes_at - %(before_final)s::interval),
    %(soonest)s)
FROM (
    SELECT b.customer_ref, b.metric, b.start_at, m.lateness_seconds, i.finalizes_at
    FROM billing_periods b
    LEFT JOIN LATERAL (
        SELECT lateness_seconds FROM metrics
        WHERE tenant_id = %(tenant_id)s AND metric = b.metric OFFSET 0
    ) AS m ON true
    LEFT JOIN LATERAL (
        SELECT min(finalizes_at) AS finalizes_at FROM stripe_invoices
        WHERE tenant_id = %(tenant_id)s AND mode = b.mode AND invoice_id = b.invoice_id
          AND status = 'draft'
        OFFSET 0
    ) AS i ON true
    WHERE b.tenant_id = %(tenant_id)s AND b.closes_at IS NULL AND b.closed_at IS NULL
      AND b.final_at IS NULL AND b.item_id = ANY(%(item_ids)s)
      AND b.end_at + make_interval(secs => coalesce(m.lateness_seconds, %(lateness)s)) > %(now)s
) AS told
WHERE p.tenant_id = %(tenant_id)s AND p.customer_ref = told.customer_ref
  AND p.metric = told.metric AND p.start_at = told.start_at
"""


def plan_closings(
    session: Session, tenant_id: str, item_ids: Sequence[str], *, now: datetime
) -> int:
    """Say of these items' periods when they close, where nobody has yet. Returns: of how many.

    Before the invoice is known, when the metric's lateness is over.
    """
    session.flush()
    parameters = {
        "tenant_id": tenant_id,
        "item_ids": list(item_ids),
        "lateness": LATENESS.total_seconds(),
        "before_final": BEFORE_FINAL,
        "soonest": now + AHEAD,
        "now": now,
    }
    return session.connection().exec_driver_sql(_PLAN, parameters).rowcount


def _rows(session: Session, place: Place, which: ColumnElement[bool]) -> Sequence[StripeInvoice]:
    """The invoices of subscriptions, in the order of what they bill."""
    return session.scalars(
        select(StripeInvoice)
        .where(
            *_at(place),
            StripeInvoice.subscription_id.is_not(None),
            StripeInvoice.status != DELETED,
            which,
        )
        .order_by(StripeInvoice.period_end, StripeInvoice.invoice_id)
        .execution_options(populate_existing=True)
    ).all()


def _spans(invoice: Invoice) -> Mapping[str, Span]:
    """By subscription item, the time that the invoice's lines bill."""
    spans: dict[str, Span] = {}
    for line in invoice.lines:
        if line.item_id is None or line.is_proration or line.start_at >= line.end_at:
            continue
        known = spans.get(line.item_id, Span(line.start_at, line.end_at))
        spans[line.item_id] = Span(
            min(known.start_at, line.start_at), max(known.end_at, line.end_at)
        )
    return spans


def _apply(
    session: Session, invoice: StripeInvoice, spans: Mapping[str, Span], now: datetime
) -> int:
    """spans: by item; of the items without, the invoice's own period is what it bills."""
    place = Place(invoice.tenant_id, invoice.mode, invoice.account_id)
    own = Span(invoice.period_start, invoice.period_end)
    periods = [
        period
        for item_id in _items(session, place, invoice.subscription_id)
        for period in _ending_within(session, invoice, item_id, spans.get(item_id, own))
    ]
    if invoice.status in FINAL:
        _close_for_good(session, invoice, periods, now)
    else:
        _close_in_time(session, invoice, periods, now)
    session.flush()
    return len(periods)


def _at(place: Place) -> tuple[ColumnElement[bool], ...]:
    return (
        StripeInvoice.tenant_id == place.tenant_id,
        StripeInvoice.mode == place.mode,
        StripeInvoice.account_id == place.account_id,
    )


def _items(session: Session, place: Place, subscription_id: str | None) -> list[str]:
    """All items that the subscription has or once had."""
    found = session.scalars(
        select(SubscriptionItem.item_id).where(
            SubscriptionItem.tenant_id == place.tenant_id,
            SubscriptionItem.mode == place.mode,
            SubscriptionItem.account_id == place.account_id,
            SubscriptionItem.subscription_id == subscription_id,
        )
    )
    return sorted(found)


def _ending_within(
    session: Session, invoice: StripeInvoice, item_id: str, span: Span
) -> Sequence[BillingPeriod]:
    """The item's periods that end within the span and that no final invoice has billed."""
    return session.scalars(
        select(BillingPeriod)
        .where(
            BillingPeriod.tenant_id == invoice.tenant_id,
            BillingPeriod.item_id == item_id,
            BillingPeriod.mode == invoice.mode,
            BillingPeriod.end_at > span.start_at,
            BillingPeriod.end_at <= span.end_at,
            or_(BillingPeriod.final_at.is_(None), BillingPeriod.invoice_id == invoice.invoice_id),
        )
        .order_by(BillingPeriod.customer_ref, BillingPeriod.metric, BillingPeriod.start_at)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()


def _close_in_time(
    session: Session, invoice: StripeInvoice, periods: Sequence[BillingPeriod], now: datetime
) -> None:
    for period in periods:
        if period.final_at is not None:
            continue
        if period.invoice_id != invoice.invoice_id:
            period.invoice_id = invoice.invoice_id
            _flush(session, period, now)
        if period.closed_at is None and (period.closes_at is None or period.closes_at > now):
            period.closes_at = max(_closing(session, invoice, period), now + AHEAD)


def _closing(session: Session, invoice: StripeInvoice, period: BillingPeriod) -> datetime:
    seconds = session.scalar(
        select(Metric.lateness_seconds).where(
            Metric.tenant_id == period.tenant_id, Metric.metric == period.metric
        )
    )
    lateness = LATENESS if seconds is None else timedelta(seconds=seconds)
    closing = period.end_at + lateness
    if invoice.finalizes_at is None:
        return closing
    return min(closing, invoice.finalizes_at - BEFORE_FINAL)


def _close_for_good(
    session: Session, invoice: StripeInvoice, periods: Sequence[BillingPeriod], now: datetime
) -> None:
    """Under the tenant's lock: what is waiting to be folded is counted, and then no more."""
    closing = [period for period in periods if period.final_at is None]
    if any(period.closed_at is None for period in closing):
        fold.fold(session, invoice.tenant_id, now=now, is_alone=False)
    for period in closing:
        period.invoice_id = invoice.invoice_id
        period.final_at = invoice.finalized_at or now
        if period.closed_at is None:
            period.closes_at = min(period.closes_at or now, now)
            period.closed_at = now
        # What Stripe has not heard of is a decision now: whoever looks writes it down.
        session.flush()
        _flush(session, period, now)


def _flush(session: Session, period: BillingPeriod, now: datetime) -> None:
    span = Span(period.start_at, period.end_at)
    unsent.flush(session, period.tenant_id, period.customer_ref, period.metric, span, now=now)
