"""Until when usage still reaches an invoice: what a period's closing follows.

A period closes when its metric's lateness is over, or 15 minutes before Stripe finalizes its
invoice if that is earlier. While the closing lies ahead it may be moved, only to an instant that
lies ahead too. Once we know that the invoice is final, the period is closed: what was folded by
then counts, what commits later is set aside.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from metering.catalog.mirror import StripeInvoice, SubscriptionItem
from metering.catalog.models import BillingPeriod, Metric
from metering.catalog.period import Span
from metering.counters import fold
from metering.stripe import unsent
from metering.stripe.answers import Invoice
from metering.tenancy import locks

# How long before Stripe finalizes an invoice nothing more is counted: the last deltas must be
# sent, and counted there.
BEFORE_FINAL = timedelta(minutes=15)
# The nearest a closing is moved to, so that it still lies ahead when this has committed.
AHEAD = timedelta(minutes=1)
# Of a metric that is not described: as the table has it.
LATENESS = timedelta(hours=48)
FINAL = ("open", "paid", "uncollectible", "void")


def note(
    session: Session,
    tenant_id: str,
    mode: str,
    account_id: str,
    invoice: Invoice,
    *,
    fetched_at: datetime,
    now: datetime,
) -> int:
    """Write down what Stripe says of an invoice, and what follows for the periods that it bills.

    fetched_at: when Stripe was asked; an older answer changes nothing.
    Returns: how many periods it bills.
    """
    if invoice.id is None or invoice.subscription_id is None:
        return 0
    locks.lock(session, tenant_id)
    row = {
        "tenant_id": tenant_id,
        "mode": mode,
        "account_id": account_id,
        "invoice_id": invoice.id,
        "stripe_customer": invoice.customer_id,
        "subscription_id": invoice.subscription_id,
        "status": invoice.status or "draft",
        "period_start": invoice.period_start,
        "period_end": invoice.period_end,
        "finalizes_at": invoice.finalizes_at,
        "finalized_at": invoice.finalized_at,
        "fetched_at": fetched_at,
    }
    statement = insert(StripeInvoice).values(**row)
    key = ("tenant_id", "mode", "account_id", "invoice_id")
    written = session.scalar(
        statement.on_conflict_do_update(
            index_elements=key,
            set_={name: statement.excluded[name] for name in row if name not in key},
            where=StripeInvoice.fetched_at < statement.excluded.fetched_at,
        )
        .returning(StripeInvoice)
        .execution_options(populate_existing=True)
    )
    if written is None:
        return 0
    return _apply(session, written, _spans(invoice), now)


def note_deleted(
    session: Session, tenant_id: str, mode: str, account_id: str, invoice_id: str, *, now: datetime
) -> None:
    """A draft was deleted: another invoice will bill its periods, or none."""
    locks.lock(session, tenant_id)
    for row in session.scalars(
        select(StripeInvoice).where(
            StripeInvoice.tenant_id == tenant_id,
            StripeInvoice.mode == mode,
            StripeInvoice.account_id == account_id,
            StripeInvoice.invoice_id == invoice_id,
        )
    ):
        session.delete(row)
    session.execute(
        update(BillingPeriod)
        .where(
            BillingPeriod.tenant_id == tenant_id,
            BillingPeriod.mode == mode,
            BillingPeriod.invoice_id == invoice_id,
            BillingPeriod.final_at.is_(None),
        )
        .values(invoice_id=None)
        .execution_options(synchronize_session=False)
    )


def apply_known(
    session: Session,
    tenant_id: str,
    mode: str,
    account_id: str,
    subscription_id: str,
    *,
    now: datetime,
) -> int:
    """Tell periods that have just become known of the invoices that were known before them."""
    locks.lock(session, tenant_id)
    rows = session.scalars(
        select(StripeInvoice)
        .where(
            StripeInvoice.tenant_id == tenant_id,
            StripeInvoice.mode == mode,
            StripeInvoice.account_id == account_id,
            StripeInvoice.subscription_id == subscription_id,
        )
        .order_by(StripeInvoice.period_end, StripeInvoice.invoice_id)
    ).all()
    return sum(_apply(session, row, {}, now) for row in rows)


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
    items = session.scalars(
        select(SubscriptionItem.item_id).where(
            SubscriptionItem.tenant_id == invoice.tenant_id,
            SubscriptionItem.mode == invoice.mode,
            SubscriptionItem.account_id == invoice.account_id,
            SubscriptionItem.subscription_id == invoice.subscription_id,
        )
    ).all()
    own = Span(invoice.period_start, invoice.period_end)
    periods = [
        period
        for item_id in items
        for period in _ending_within(session, invoice, item_id, spans.get(item_id, own))
    ]
    if invoice.status in FINAL:
        _close_for_good(session, invoice, periods, now)
    else:
        _close_in_time(session, invoice, periods, now)
    session.flush()
    return len(periods)


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
        fold.fold(session, invoice.tenant_id, now=now)
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
