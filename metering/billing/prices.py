"""The price in force: what a metric costs a customer in a billing period.

A period is priced as a whole, at the price in force at its end, as a bill made at that instant
would: a price that begins or ends within the period is named beside the amount. Only active
mappings count; a shadow is a test, and nobody pays its price.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    shared = [row for row in within if not _is_own(row)]
    refs = {row.customer_ref for row in within if _is_own(row)}
    return Everyones(
        _chosen(shared, span),
        {
            ref: _chosen([*shared, *(row for row in within if row.customer_ref == ref)], span)
            for ref in sorted(refs)
        },
    )


def _chosen(rows: Sequence[Any], span: Span) -> InForce:
    """Of a metric's mappings within the period, the one that prices it."""
    live = [row for row in rows if row.is_active]
    if not live:
        return InForce(None, _SHADOW_ONLY if any(r.is_shadow for r in rows) else _NO_MAPPING)
    # An item whose customer is not said is somebody's, and whose is not known here.
    usable = [row for row in live if row.subscription_item_id is None or _is_own(row)]
    if not usable:
        return InForce(None, _ITEM_ONLY)
    note = _ITEM_BESIDE if len(usable) < len(live) else None
    at_end = [r for r in usable if r.effective_until is None or r.effective_until >= span.end_at]
    if not at_end:
        return InForce(None, _ENDED)
    # The narrower scope goes first; within a scope only one is in force.
    chosen = max(at_end, key=_scope)
    if sum(_scope(row) == _scope(chosen) for row in at_end) > 1:
        return InForce(None, _SEVERAL_ITEMS)
    if chosen.price is None:
        return InForce(None, _NO_DEFINITION, chosen.mapping_id, chosen.aggregation)
    try:
        price = _price(chosen.price, chosen.currency)
    except PricingError as error:
        # One price that cannot be read must not take the others down with it.
        return InForce(None, f"{_UNREADABLE}: {error}", chosen.mapping_id, chosen.aggregation)
    return InForce(
        price,
        mapping_id=chosen.mapping_id,
        aggregation=chosen.aggregation,
        changed_at=_changes([row for row in usable if _scope(row) >= _scope(chosen)], span),
        note=note,
    )


def _is_own(row: Any) -> bool:
    return row.customer_ref is not None


def _scope(row: Any) -> tuple[bool, bool]:
    """Everyone, one customer, one of the customer's subscription items."""
    return _is_own(row), row.subscription_item_id is not None


def _changes(rows: Sequence[Any], span: Span) -> tuple[datetime, ...]:
    edges = {edge for row in rows for edge in (row.effective_from, row.effective_until)}
    return tuple(sorted(at for at in edges if at and span.start_at < at < span.end_at))


@lru_cache(maxsize=1024)
def _price(definition: str, currency: str) -> Price:
    """Prices do not change once they are made: read each text once."""
    return from_config(msgspec.json.decode(definition)).in_currency(currency)


_NO_MAPPING = "no price is mapped to this metric in the period"
_SHADOW_ONLY = "the metric's only mapping is shadow, a test that nobody pays"
_ITEM_ONLY = (
    "the metric's price holds for one subscription item, and whose that is will be known once"
    " Stripe is connected"
)
_ITEM_BESIDE = (
    "a mapping for one subscription item is not looked at: whose that is will be known once Stripe"
    " is connected"
)
_SEVERAL_ITEMS = (
    "the customer has a price for each of several subscription items, and which usage is whose"
    " will be known once Stripe is connected"
)
_UNREADABLE = "the price that is mapped to this metric cannot be read"
_ENDED = "no price of this metric is in force at the period's end"
_NO_DEFINITION = "the metric's mapping has no price definition; what Stripe has is not known here"

_WITHIN = """
SELECT mapping_id, metric, aggregation, customer_ref, subscription_item_id, currency,
       price::text AS price, is_active, is_shadow, effective_from, effective_until
FROM mappings
WHERE tenant_id = %(tenant_id)s AND metric = ANY(%(metrics)s)
  AND {whose}
  AND effective_from < %(end_at)s
  AND (effective_until IS NULL
       OR effective_until > %(start_at)s AND effective_until > effective_from)
"""
_OF_ONE = _WITHIN.format(whose="(customer_ref IS NULL OR customer_ref = %(customer_ref)s)")
_OF_ALL = _WITHIN.format(whose="true")
