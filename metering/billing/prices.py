"""The price in force: what a metric costs a customer in a billing period.

A period is priced as a whole, at the price in force at its end, as a bill made at that instant
would: a price that begins or ends within the period is named beside the amount. Only active
mappings count; a shadow is a test, and nobody pays its price.

A mapping says that the metric is billed. What it costs is read from the customer's subscription
item, for that is what Stripe bills by; else from the mapping's own definition; else from the
Stripe price that the mapping names. Of Stripe's objects a live tenant's are the live ones, a test
tenant's those of test mode.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy.orm import Session

from metering.catalog.period import Span
from pricing import PricingError
from pricing.price import Price, from_config


@dataclass(frozen=True)
class InForce:
    """What is known of one metric's price for one customer in one period.

    price:       None where there is none, and then `why_not` says why.
    aggregation: what the mapping reads the metric by; None: the metric's own.
    note:        what else is to be known of the price.
    changed_at:  the instants within the period at which a price of the metric began or ended.
    """

    price: Price | None
    why_not: str | None = None
    mapping_id: str | None = None
    aggregation: str | None = None
    changed_at: tuple[datetime, ...] = ()
    note: str | None = None


def in_force(
    session: Session, tenant_id: str, customer_ref: str, metrics: Sequence[str], span: Span
) -> dict[str, InForce]:
    """The price of each of these metrics, by metric; one statement for all of them."""
    parameters = {
        "tenant_id": tenant_id,
        "customer_ref": customer_ref,
        "metrics": list(metrics),
        "start_at": span.start_at,
        "end_at": span.end_at,
    }
    rows = session.connection().exec_driver_sql(_OF_ONE, parameters).all() if metrics else []
    by_metric: dict[str, list[Any]] = {metric: [] for metric in metrics}
    for row in rows:
        by_metric[row.metric].append(row)
    return {metric: _chosen(found, span) for metric, found in by_metric.items()}


@dataclass(frozen=True)
class Everyones:
    """One metric's price in one period: for whom there is no other, and for those who have one."""

    price: InForce
    own: Mapping[str, InForce]


def for_everyone(
    session: Session, tenant_id: str, metric: str, spans: Sequence[Span]
) -> dict[Span, Everyones]:
    """The metric's prices in each of these periods, whoever uses it; one statement for all."""
    parameters = {
        "tenant_id": tenant_id,
        "metrics": [metric],
        "start_at": min(span.start_at for span in spans),
        "end_at": max(span.end_at for span in spans),
    }
    rows = session.connection().exec_driver_sql(_OF_ALL, parameters).all()
    return {span: _everyones(rows, span) for span in spans}


def _everyones(rows: Sequence[Any], span: Span) -> Everyones:
    within = [
        row
        for row in rows
        if row.effective_from < span.end_at
        and (row.effective_until is None or row.effective_until > span.start_at)
    ]
    own = [(ref, row) for row in within for ref in _whose(row)]
    shared = [row for row in within if not _whose(row)]
    return Everyones(
        _chosen(shared, span),
        {
            ref: _chosen([*shared, *(row for whose, row in own if whose == ref)], span)
            for ref in sorted({ref for ref, _ in own})
        },
    )


def _whose(row: Any) -> Sequence[str]:
    """The customers whose alone the mapping is; nobody where it is everyone's or not known."""
    return [row.customer_ref] if row.customer_ref is not None else row.item_refs or []


def _chosen(rows: Sequence[Any], span: Span) -> InForce:
    """Of a metric's mappings within the period, the one that prices it."""
    live = [row for row in rows if row.is_active]
    if not live:
        return InForce(None, _SHADOW_ONLY if any(r.is_shadow for r in rows) else _NO_MAPPING)
    # An item whose customer is not known is somebody's.
    usable = [row for row in live if row.mapped_item is None or _whose(row)]
    if not usable:
        return InForce(None, _ITEM_ONLY)
    note = _ITEM_BESIDE if len(usable) < len(live) else None
    at_end = [r for r in usable if r.effective_until is None or r.effective_until >= span.end_at]
    if not at_end:
        return InForce(None, _ENDED)
    # The narrower scope goes first; within a scope several are in force only on several meters.
    narrowest = max(map(_scope, at_end))
    found = [row for row in at_end if _scope(row) == narrowest]
    if len(found) > 1:
        return InForce(None, _SEVERAL_ITEMS if found[0].mapped_item else _SEVERAL_METERS)
    [chosen] = found
    made = _priced(chosen)
    if made.price is None:
        return made
    changed_at = _changes([row for row in usable if _scope(row) >= narrowest], span)
    return replace(made, changed_at=changed_at, note=made.note or note)


def _priced(row: Any) -> InForce:
    """The mapping's price from the first of its sources that can be read."""
    sources = (
        (row.item_price, _ITEMS.format(price=row.item_price_id)),
        (row.price, _OWN),
        (row.mapped_price, _STRIPES.format(price=row.mapped_price_id)),
    )
    unreadable = _said(_ITEMS.format(price=row.item_price_id), row.item_unreadable)
    for definition, named in sources:
        if definition is None:
            continue
        try:
            price = _price(definition, row.currency)
        except PricingError as error:
            # One price that cannot be read must not take the others down with it.
            unreadable = unreadable or _said(named, str(error))
        else:
            return InForce(price, None, row.mapping_id, row.aggregation, note=unreadable)
    named = _STRIPES.format(price=row.mapped_price_id)
    unreadable = unreadable or _said(named, row.mapped_unreadable)
    return InForce(None, unreadable or _NO_DEFINITION, row.mapping_id, row.aggregation)


def _said(named: str, reason: str | None) -> str | None:
    return None if reason is None else f"{named} {_UNREADABLE}: {reason}"


def _scope(row: Any) -> tuple[bool, bool]:
    """Everyone, one customer, one of the customer's subscription items."""
    return bool(_whose(row)), row.mapped_item is not None


def _changes(rows: Sequence[Any], span: Span) -> tuple[datetime, ...]:
    edges = {edge for row in rows for edge in (row.effective_from, row.effective_until)}
    return tuple(sorted(at for at in edges if at and span.start_at < at < span.end_at))


@lru_cache(maxsize=1024)
def _price(definition: str, currency: str | None) -> Price:
    """Prices do not change once they are made: read each text once."""
    price = from_config(msgspec.json.decode(definition))
    return price if currency is None else price.in_currency(currency)


_NO_MAPPING = "no price is mapped to this metric in the period"
_SHADOW_ONLY = "the metric's only mapping is shadow, a test that nobody pays"
_ITEM_ONLY = (
    "the metric's price holds for one subscription item, and whose that is is not known: read the"
    " account again with `stripemeter stripe sync`"
)
_ITEM_BESIDE = (
    "a mapping for one subscription item is not looked at: whose that is is not known, until the"
    " account is read again with `stripemeter stripe sync`"
)
_SEVERAL_ITEMS = (
    "the customer has a price for each of several subscription items, and which usage is whose"
    " cannot be told"
)
_SEVERAL_METERS = (
    "the metric is mapped to several meters, each with a price of its own: Stripe bills it on each"
    " of them, and there is no one price"
)
_ITEMS = "the price {price} of the customer's subscription item"
_OWN = "the price that is mapped to this metric"
_STRIPES = "the Stripe price {price} that is mapped to this metric"
_UNREADABLE = "cannot be read"
_ENDED = "no price of this metric is in force at the period's end"
_NO_DEFINITION = (
    "the metric's mapping has no price definition, and neither its Stripe price nor a subscription"
    " item of the customer is known here"
)

_WITHIN = """
SELECT m.mapping_id, m.metric, m.aggregation, m.customer_ref, m.mapped_item, m.currency,
       m.written AS price, m.is_active, m.is_shadow, m.effective_from, m.effective_until,
       m.mapped_price_id,
       mapped.definition AS mapped_price, mapped.unreadable AS mapped_unreadable,
       owned.refs AS item_refs,
       item.price_id AS item_price_id, item.definition AS item_price,
       item.unreadable AS item_unreadable
FROM (
    SELECT m.*, m.price::text AS written, t.mode,
           CASE t.mode WHEN 'live' THEN m.subscription_item_id
                ELSE coalesce(m.shadow_subscription_item_id, m.subscription_item_id)
           END AS mapped_item,
           CASE t.mode WHEN 'live' THEN m.price_id ELSE coalesce(m.shadow_price_id, m.price_id)
           END AS mapped_price_id,
           CASE t.mode WHEN 'live' THEN m.stripe_account
                ELSE coalesce(m.shadow_stripe_account, m.stripe_account)
           END AS account_id
    FROM mappings m JOIN tenants t ON t.tenant_id = %(tenant_id)s
    WHERE m.tenant_id = %(tenant_id)s
) AS m
LEFT JOIN LATERAL (
    SELECT p.definition::text AS definition, p.unreadable FROM stripe_prices p
    WHERE p.tenant_id = %(tenant_id)s AND p.mode = m.mode AND p.price_id = m.mapped_price_id
      AND (m.account_id IS NULL OR p.account_id = m.account_id)
    ORDER BY p.account_id LIMIT 1
) AS mapped ON true
LEFT JOIN LATERAL (
    SELECT array_agg(DISTINCT b.customer_ref) AS refs FROM billing_periods b
    WHERE b.tenant_id = %(tenant_id)s AND b.item_id = m.mapped_item AND b.metric = m.metric
) AS owned ON true
LEFT JOIN LATERAL ({item}) AS item ON true
WHERE m.metric = ANY(%(metrics)s)
  AND {whose}
  AND m.effective_from < %(end_at)s
  AND (m.effective_until IS NULL
       OR m.effective_until > %(start_at)s AND m.effective_until > m.effective_from)
"""
# The item that bills the period; of one that was cut in two, the later part's. It bills by the
# price that it had then.
_ITEM_OF_ONE = """
    SELECT named.price_id, p.definition::text AS definition, p.unreadable
    FROM billing_periods b
    JOIN subscription_items i
      ON i.tenant_id = %(tenant_id)s AND i.mode = b.mode AND i.item_id = b.item_id
    CROSS JOIN LATERAL (
        SELECT coalesce(
            (SELECT past ->> 'price_id' FROM jsonb_array_elements(i.past_prices) AS past
             WHERE (past ->> 'until')::timestamptz >= b.end_at
             ORDER BY (past ->> 'until')::timestamptz LIMIT 1),
            i.price_id) AS price_id
    ) AS named
    LEFT JOIN stripe_prices p
      ON p.tenant_id = %(tenant_id)s AND p.mode = i.mode AND p.account_id = i.account_id
     AND p.price_id = named.price_id
    WHERE b.tenant_id = %(tenant_id)s AND b.customer_ref = %(customer_ref)s
      AND b.metric = m.metric AND b.mode = m.mode
      AND b.start_at < %(end_at)s AND b.end_at > %(start_at)s
    ORDER BY b.start_at DESC LIMIT 1
"""
_NO_ITEM = "SELECT NULL::text AS price_id, NULL::text AS definition, NULL::text AS unreadable"
_OF_ONE = _WITHIN.format(
    item=_ITEM_OF_ONE,
    whose="""(m.customer_ref = %(customer_ref)s
       OR m.customer_ref IS NULL AND (owned.refs IS NULL OR %(customer_ref)s = ANY(owned.refs)))""",
)
_OF_ALL = _WITHIN.format(item=_NO_ITEM, whose="true")
