"""Billing periods follow subscription items: whose usage an item bills, and when.

Everything is reckoned anew from rows whenever one of them changes, so that it does not matter in
which order an item, a mapping or a customer becomes known. One item on a meter has the say; a
second one at the same time is a conflict (see `conflict`), and gets what the first leaves free.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from metering.catalog import schedules, timetable
from metering.catalog.mirror import StripeCustomer, SubscriptionItem
from metering.catalog.models import BillingPeriod, Customer, MetricMapping
from metering.catalog.period import Span
from metering.catalog.schedules import PlannedPeriod
from metering.counters import customers as counted
from metering.counters import periods
from metering.stripe import unsent
from metering.stripe.destinations import DEAD, Atlas
from metering.tenancy import tenants

# Subscriptions of such a status never billed anything.
NEVER_BILLED = ("incomplete", "incomplete_expired")
# What ended longer ago than Stripe takes usage for needs no haste any more.
FLUSHED = timedelta(days=35)

Lead = tuple[str, str]
Pair = tuple[str, str]


def apply(
    session: Session,
    tenant_id: str,
    mode: str,
    account_id: str,
    leads: Iterable[Lead],
    *,
    now: datetime,
) -> set[Pair]:
    """Something about these Stripe customers' items on these meters has changed.

    leads: (Stripe customer, meter id).  Returns: the (customer, metric) pairs that were looked at.
    """
    wanted = set(leads)
    if not wanted:
        return set()
    refs_of = {
        customer: refs(session, tenant_id, mode, account_id, customer)
        for customer in sorted({customer for customer, _ in wanted})
    }
    names = mapped_metrics(session, tenant_id)
    every_ref = {ref for found in refs_of.values() for ref in found}
    atlas = Atlas(session, tenant_id, every_ref, names, default_account=account_id)
    metrics_of = {meter_id: atlas.metrics_on(mode, account_id, meter_id) for _, meter_id in wanted}
    pairs = {
        (ref, metric)
        for customer, meter_id in wanted
        for ref in refs_of[customer]
        if atlas.stripe_customer(mode, account_id, ref) == customer
        for metric in metrics_of[meter_id]
    }
    _replan_all(session, tenant_id, atlas, pairs, now)
    return pairs


def apply_for_meters(
    session: Session,
    tenant_id: str,
    mode: str,
    account_id: str,
    meter_ids: Iterable[str],
    *,
    now: datetime,
) -> set[Pair]:
    """Something about these meters has become known: usage may lead to them only now."""
    leads = session.execute(
        select(SubscriptionItem.stripe_customer, SubscriptionItem.meter_id)
        .where(
            SubscriptionItem.tenant_id == tenant_id,
            SubscriptionItem.mode == mode,
            SubscriptionItem.account_id == account_id,
            SubscriptionItem.meter_id.in_(sorted(meter_ids)),
        )
        .distinct()
    )
    named = [(customer, str(meter_id)) for customer, meter_id in leads]
    return apply(session, tenant_id, mode, account_id, named, now=now)


def apply_for_metric(
    session: Session,
    tenant_id: str,
    metric: str,
    *,
    now: datetime,
    after: str = "",
    limit: int = 200,
) -> str | None:
    """A mapping of the metric was made, changed or ended: look at everyone who has an item, or
    had periods of one, a stretch at a time.

    Returns: `after` of the next stretch; None: there is none.
    """
    parameters = {"tenant_id": tenant_id, "metric": metric, "after": after, "most": limit}
    rows = session.connection().exec_driver_sql(_REFS_WITH_ITEMS, parameters)
    found = [row.customer_ref for row in rows]
    atlas = Atlas(session, tenant_id, found, [metric], default_account=None)
    _replan_all(session, tenant_id, atlas, {(ref, metric) for ref in found}, now)
    return found[-1] if len(found) == limit else None


# Everybody who may have an item: those that we were told of, that Stripe's metadata name, or that
# are called as Stripe calls them.
_REFS_WITH_ITEMS = """
WITH theirs AS (
    SELECT DISTINCT stripe_customer FROM subscription_items WHERE tenant_id = %(tenant_id)s
)
SELECT customer_ref FROM (
    SELECT c.customer_ref FROM customers c JOIN theirs t
      ON t.stripe_customer IN (c.stripe_customer_id, c.shadow_stripe_customer_id)
    WHERE c.tenant_id = %(tenant_id)s
    UNION
    SELECT s.customer_ref FROM stripe_customers s JOIN theirs t USING (stripe_customer)
    WHERE s.tenant_id = %(tenant_id)s AND s.customer_ref IS NOT NULL
    UNION
    SELECT t.stripe_customer FROM theirs t
    WHERE EXISTS (SELECT 1 FROM counters c
                  WHERE c.tenant_id = %(tenant_id)s AND c.customer_ref = t.stripe_customer)
    UNION
    SELECT b.customer_ref FROM billing_periods b
    WHERE b.tenant_id = %(tenant_id)s AND b.metric = %(metric)s
) AS everyone
WHERE customer_ref > %(after)s
ORDER BY customer_ref LIMIT %(most)s
"""


def apply_for_customer(
    session: Session, tenant_id: str, customer_ref: str, *, now: datetime
) -> set[Pair]:
    """Who a customer is in Stripe became known, or changed."""
    names = mapped_metrics(session, tenant_id)
    atlas = Atlas(session, tenant_id, [customer_ref], names, default_account=None)
    pairs = {(customer_ref, metric) for metric in names}
    _replan_all(session, tenant_id, atlas, pairs, now)
    unsent.release(session, tenant_id, customer_ref, names, now=now)
    for metric in names:
        # What was sent to another of Stripe's customers goes over to the new one; what a final
        # invoice has billed, or Stripe takes no more, stays where it is.
        billed_until = _billed_until(session, tenant_id, customer_ref, metric)
        since = max(now - FLUSHED, billed_until or now - FLUSHED)
        unsent.mark(session, tenant_id, customer_ref, metric, since=since, now=now)
    return pairs


def _billed_until(
    session: Session, tenant_id: str, customer_ref: str, metric: str
) -> datetime | None:
    """The end of the latest period whose invoice is final."""
    return session.scalar(
        select(func.max(BillingPeriod.end_at)).where(
            BillingPeriod.tenant_id == tenant_id,
            BillingPeriod.customer_ref == customer_ref,
            BillingPeriod.metric == metric,
            BillingPeriod.final_at.is_not(None),
        )
    )


def conflict(
    session: Session,
    tenant_id: str,
    mode: str,
    account_id: str,
    stripe_customer: str,
    meter_id: str,
) -> list[str]:
    """The ids of the items that bill one customer's usage of one meter at the same time; empty
    where at most one does. Stripe would bill the same usage on each of them."""
    found = session.scalars(
        select(SubscriptionItem.item_id)
        .where(
            SubscriptionItem.tenant_id == tenant_id,
            SubscriptionItem.mode == mode,
            SubscriptionItem.account_id == account_id,
            SubscriptionItem.stripe_customer == stripe_customer,
            SubscriptionItem.meter_id == meter_id,
            SubscriptionItem.ended_at.is_(None),
            SubscriptionItem.status.not_in(DEAD),
        )
        .order_by(SubscriptionItem.item_id)
    ).all()
    return list(found) if len(found) > 1 else []


def mapped_metrics(session: Session, tenant_id: str) -> list[str]:
    """The metrics that have a mapping which goes somewhere in Stripe."""
    places = (
        MetricMapping.meter_event_name,
        MetricMapping.meter_id,
        MetricMapping.price_id,
        MetricMapping.shadow_price_id,
    )
    found = session.scalars(
        select(MetricMapping.metric)
        .where(
            MetricMapping.tenant_id == tenant_id,
            or_(MetricMapping.is_active, MetricMapping.is_shadow),
            func.coalesce(*places).is_not(None),
        )
        .distinct()
        .order_by(MetricMapping.metric)
    )
    return list(found.all())


def refs(
    session: Session, tenant_id: str, mode: str, account_id: str, stripe_customer: str
) -> set[str]:
    """Which customers of ours may be this one of Stripe's; `Atlas.stripe_customer` has the say."""
    told = [
        Customer.stripe_customer_id if mode == "live" else Customer.shadow_stripe_customer_id,
    ]
    is_itself = mode == "live"
    if mode == "test" and tenants.get(session, tenant_id).mode == "test":
        told.append(Customer.stripe_customer_id)
        is_itself = True
    found = set(
        session.scalars(
            select(Customer.customer_ref).where(
                Customer.tenant_id == tenant_id,
                or_(*(column == stripe_customer for column in told)),
            )
        )
    )
    named = session.scalar(
        select(StripeCustomer.customer_ref).where(
            StripeCustomer.tenant_id == tenant_id,
            StripeCustomer.mode == mode,
            StripeCustomer.account_id == account_id,
            StripeCustomer.stripe_customer == stripe_customer,
        )
    )
    if named is not None:
        found.add(named)
    # Called by nobody else's name, it may be called by its own.
    if is_itself and (not found or counted.has_usage(session, tenant_id, stripe_customer)):
        found.add(stripe_customer)
    return found


def _replan_all(
    session: Session, tenant_id: str, atlas: Atlas, pairs: Iterable[Pair], now: datetime
) -> None:
    for customer_ref, metric in sorted(pairs):
        _replan(session, tenant_id, atlas, customer_ref, metric, now)


def _replan(
    session: Session, tenant_id: str, atlas: Atlas, customer_ref: str, metric: str, now: datetime
) -> None:
    mode = atlas.schedule_mode(customer_ref, metric)
    items = [
        item for item in atlas.items(mode, customer_ref, metric) if item.status not in NEVER_BILLED
    ]
    wanted = tiled(items, at_prices=atlas.is_by_the_hour(customer_ref, metric))
    moved = periods.replan(session, tenant_id, customer_ref, metric, wanted, now=now)
    if moved is not None:
        unsent.mark(
            session,
            tenant_id,
            customer_ref,
            metric,
            since=moved.span.start_at,
            until=moved.span.end_at,
            now=now,
        )
        ends = {item.ended_at for item in items if item.ended_at is not None}
        for period in wanted:
            if period.end_at in ends and now - FLUSHED < period.end_at <= now:
                # Its invoice is made at once: what is left of the period goes before others.
                span = Span(period.start_at, period.end_at)
                unsent.flush(session, tenant_id, customer_ref, metric, span, now=now)
    unsent.release(session, tenant_id, customer_ref, [metric], now=now)


def tiled(items: Iterable[SubscriptionItem], *, at_prices: bool = True) -> list[PlannedPeriod]:
    """The periods that these items of one customer's metric want, none over another.

    Who began first goes first, for as long as it bills: what comes later redraws no history.
    at_prices: a price that changes within a period cuts it in two: Stripe rates what is used before
               and after apart. Not so for a level: 50 seats, cut in two, would be billed twice.
    """
    ranked = sorted(items, key=lambda item: (item.started_at, item.item_id))
    found: list[PlannedPeriod] = []
    for item in ranked:
        prices = item.past_prices if at_prices else ()
        edges = [datetime.fromisoformat(past["until"]) for past in prices]
        for period in schedules.planned(item):
            inside = [at for at in edges if period.start_at < at < period.end_at]
            for start_at, end_at in pairwise(sorted({period.start_at, *inside, period.end_at})):
                found += [
                    replace(period, start_at=span.start_at, end_at=span.end_at)
                    for span in timetable.without(Span(start_at, end_at), list(found))
                ]
    return sorted(found)
