"""What a decision is worth: the totals that an adjustment changes, and what they cost before and
after, by the one pricing function.

Where the totals follow from sums they are reckoned, however many events an adjustment is of; else
it is tried both ways (see `deciding.effect`), which takes the tenant's lock.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from metering.billing import amounts, prices
from metering.billing.prices import InForce
from metering.catalog.period import Span
from metering.counters import bounds, deciding, usage
from metering.counters.aggregation import reading
from metering.counters.deciding import Effect
from metering.counters.models import Adjustment
from pricing import PricingError, money
from pricing.money import Currency
from pricing.numbers import EXACT, ZERO

# Of a list so many are tried one by one, where arithmetic cannot tell what they would do.
MOST_TRIED = 20


@dataclass(frozen=True)
class Money:
    """What a total costs without an adjustment and with it; minor units.

    without, applied: None where the metric has no price in the period; `why_not` says why.
    """

    without: int | None = None
    applied: int | None = None
    currency: Currency | None = None
    why_not: str | None = None

    @property
    def difference(self) -> int | None:
        """None where it is not known; below 0, the customer pays less."""
        if self.without is None or self.applied is None:
            return None
        return self.applied - self.without


@dataclass(frozen=True)
class Change:
    """One period's total, by the metric's own aggregation, and its cost: without an adjustment
    and with it."""

    span: Span
    effect: Effect
    money: Money


@dataclass(frozen=True)
class Decision:
    """What an adjustment does or would do.

    own:     where it is applied, in its own period.
    carried: where it is carried forward, in the period in which it counts then.
    not_carried: why it cannot be carried forward; None: it can, or is.
    """

    own: Change
    carried: Change
    not_carried: str | None = None


def of(session: Session, tenant_id: str, one: Adjustment, *, now: datetime) -> Decision:
    """Both ways to count it, exactly; changes nothing."""
    place = bounds.of_adjustments(session, tenant_id, [one], now=now)[one.adjustment_id]
    own_price = _price(session, tenant_id, one, place.own.span)
    [row] = _totals(session, tenant_id, [one])
    effect = _effect(session, one, row, row.aggregation, now)
    billed = effect
    if own_price.aggregation not in (None, row.aggregation):
        billed = _effect(session, one, row, own_price.aggregation, now)
    own = Change(place.own.span, effect, _money(own_price, billed))
    if place.carried is not None and one.status == "approved":
        span, is_in, counts = place.carried.span, True, one.carried or ZERO
    else:
        [current] = bounds.places(session, tenant_id, [(one.customer_ref, one.metric, now)], now)
        is_in = one.status == "approved" and one.disposition == "apply" and current.span == own.span
        span, counts = current.span, effect.difference
        if not is_in and one.kind == "events" and row.aggregation not in ("sum", "count"):
            # Others of its period that were carried before may have billed what it adds.
            counts = deciding.worth_carrying(session, tenant_id, one.adjustment_id, now=now)
    price = _price(session, tenant_id, one, span)

    def moved(aggregation: str | None) -> Effect:
        key = tenant_id, one.customer_ref, one.metric
        total = usage.total(session, *key, span.start_at, aggregation=aggregation)
        without = EXACT.subtract(total, counts) if is_in else total
        return Effect(without, EXACT.add(without, counts))

    refused = None
    if one.status != "approved":
        refused = deciding.why_not_carried(session, one, now=now)
    carried = Change(span, moved(None), _money(price, moved(price.aggregation)))
    return Decision(own, carried, refused)


def of_pending(
    session: Session, tenant_id: str, many: Sequence[Adjustment], *, now: datetime
) -> dict[str, Money]:
    """What each of these would do to the bill of its own period if it were applied alone, by id.

    many: pending ones. Where only a trial can tell, the first `MOST_TRIED` are tried.
    """
    places = bounds.of_adjustments(session, tenant_id, many, now=now)
    found = _prices(session, tenant_id, [(one, places[one.adjustment_id].own.span) for one in many])
    by_id, tried = {row.adjustment_id: row for row in _totals(session, tenant_id, many)}, 0
    stakes = {}
    for one in many:
        price, row = found[one.adjustment_id], by_id[one.adjustment_id]
        if price.price is None:
            stakes[one.adjustment_id] = Money(why_not=price.why_not)
            continue
        aggregation = price.aggregation or row.aggregation
        effect = _reckoned(one, row, aggregation)
        if effect is None and tried < MOST_TRIED:
            tried += 1
            effect = _effect(session, one, row, aggregation, now)
        stakes[one.adjustment_id] = _money(price, effect) if effect else Money(why_not=_MANY)
    return stakes


def together(stakes: Sequence[Money]) -> list[tuple[Currency, int]]:
    """The amounts by currency, whichever way they go, the most first; what has no amount is in
    none of them."""
    sums: dict[Currency, int] = defaultdict(int)
    for stake in stakes:
        if stake.difference is not None and stake.currency is not None:
            sums[stake.currency] += abs(stake.difference)
    return sorted(sums.items(), key=lambda pair: -money.major(pair[1], pair[0]))


def _effect(
    session: Session, one: Adjustment, row: Any, aggregation: str | None, now: datetime
) -> Effect:
    found = _reckoned(one, row, aggregation or row.aggregation)
    if found is not None:
        return found
    key = one.tenant_id, one.adjustment_id
    return deciding.effect(session, *key, aggregation=aggregation, now=now)


def _reckoned(one: Adjustment, row: Any, aggregation: str) -> Effect | None:
    """What it does, where that follows from sums; None: only a trial tells."""
    total = ZERO if row.event_count is None else reading(aggregation, row, row.unique_count)
    is_in = one.status == "approved" and one.disposition == "apply"
    # Of unbilled usage the total has it already: it is only on no invoice.
    if one.origin == "unbilled":
        is_in = True
    if one.kind == "delta" or aggregation == "sum":
        added = row.added
    elif aggregation == "count":
        added = Decimal(row.events)
    elif aggregation == "max" and not is_in:
        added = max(ZERO, EXACT.subtract(row.greatest or ZERO, row.max_value or ZERO))
    else:
        return None
    if is_in:
        return Effect(EXACT.subtract(total, added), total)
    return Effect(total, EXACT.add(total, added))


def _totals(session: Session, tenant_id: str, many: Sequence[Adjustment]) -> Sequence[Any]:
    """Of each its period's aggregates, and what its events come to; one look at all of them."""
    if not many:
        return []
    parameters = {"tenant_id": tenant_id, "ids": [one.adjustment_id for one in many]}
    return session.connection().exec_driver_sql(_TOTALS, parameters).all()


def _money(found: InForce, effect: Effect) -> Money:
    if found.price is None:
        return Money(why_not=found.why_not)
    try:
        return Money(
            amounts.cost(found.price, effect.without),
            amounts.cost(found.price, effect.applied),
            found.price.currency,
        )
    except PricingError as error:
        return Money(why_not=str(error))


def _price(session: Session, tenant_id: str, one: Adjustment, span: Span) -> InForce:
    return prices.in_force(session, tenant_id, one.customer_ref, [one.metric], span)[one.metric]


def _prices(
    session: Session, tenant_id: str, many: Sequence[tuple[Adjustment, Span]]
) -> dict[str, InForce]:
    """By id; one statement for each customer's period."""
    wanted: dict[tuple[str, Span], set[str]] = defaultdict(set)
    for one, span in many:
        wanted[one.customer_ref, span].add(one.metric)
    found = {
        (ref, span): prices.in_force(session, tenant_id, ref, sorted(names), span)
        for (ref, span), names in wanted.items()
    }
    return {one.adjustment_id: found[one.customer_ref, span][one.metric] for one, span in many}


_MANY = "there are too many to look at each; open it to see"

# A voided event adds nothing, whatever is decided of those that came with it.
_TOTALS = """
SELECT j.adjustment_id, m.aggregation, c.event_count, c.sum_value, c.max_value, c.last_value,
       c.unique_count, c.delta, coalesce(j.delta, aside.quantity, 0) AS added, aside.events,
       aside.greatest
FROM adjustments j
JOIN metrics m ON m.tenant_id = %(tenant_id)s AND m.metric = j.metric
LEFT JOIN LATERAL (
    SELECT * FROM used_counters
    WHERE tenant_id = %(tenant_id)s AND customer_ref = j.customer_ref AND metric = j.metric
      AND period_start = j.period_start
    OFFSET 0
) AS c ON true
CROSS JOIN LATERAL (
    SELECT count(*) AS events, sum(quantity) AS quantity, max(quantity) AS greatest
    FROM set_aside
    WHERE tenant_id = %(tenant_id)s AND adjustment_id = j.adjustment_id
      AND period_start = j.period_start
      AND NOT EXISTS (SELECT 1 FROM voids v WHERE v.tenant_id = %(tenant_id)s
                      AND v.idempotency_key = set_aside.idempotency_key)
    OFFSET 0
) AS aside
WHERE j.tenant_id = %(tenant_id)s AND j.adjustment_id = ANY(%(ids)s)
"""
