"""How much money hangs on usage that Stripe has not got: by the one pricing function, period by
period, the price of all that was used less the price of what Stripe knows of."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy.orm import Session

from metering.billing import amounts, prices
from metering.billing.prices import Everyones, InForce
from metering.catalog.period import Span
from metering.stripe.spans import Source
from pricing import PricingError, money
from pricing.money import Currency

ZERO = Decimal(0)


@dataclass(frozen=True)
class Part:
    """Of one billing period: `missing` of the `total` that was used; below 0, Stripe has more."""

    source: Source
    span: Span
    total: Decimal
    missing: Decimal


@dataclass(frozen=True)
class Stake:
    """What is at stake. quantity, amount: None where they are not known, and then `why_not` says
    why the amount is not.

    amount: minor units; below 0, Stripe would bill so much too much.
    """

    quantity: Decimal | None = None
    amount: int | None = None
    currency: Currency | None = None
    why_not: str | None = None

    @property
    def rank(self) -> Decimal:
        """The size of the amount in major units, to sort by; −1 where there is none. Currencies
        are not converted."""
        if self.amount is None or self.currency is None:
            return Decimal(-1)
        return abs(money.major(self.amount, self.currency))


class Prices:
    """What usage costs in its period; every metric's prices are loaded once for all periods."""

    def __init__(self, session: Session, tenant_id: str, parts: Iterable[Part]) -> None:
        spans: dict[str, set[Span]] = defaultdict(set)
        for part in parts:
            spans[part.source.metric].add(part.span)
        self._of: dict[str, dict[Span, Everyones]] = {
            metric: prices.for_everyone(session, tenant_id, metric, sorted(wanted))
            for metric, wanted in spans.items()
        }

    def stake(self, parts: Sequence[Part]) -> Stake:
        """What these parts of one customer's usage come to."""
        quantity = sum((part.missing for part in parts), ZERO)
        amount, currency = 0, None
        for part in parts:
            found = self._in_force(part)
            if found.price is None:
                return Stake(quantity, why_not=found.why_not)
            if currency not in (None, found.price.currency):
                return Stake(quantity, why_not=_CURRENCIES)
            currency = found.price.currency
            try:
                known = part.total - part.missing
                amount += amounts.cost(found.price, part.total) - amounts.cost(found.price, known)
            except PricingError as error:
                return Stake(quantity, why_not=str(error))
        if currency is None:
            return Stake(quantity, why_not=_NOTHING)
        return Stake(quantity, amount, currency)

    def _in_force(self, part: Part) -> InForce:
        of = self._of[part.source.metric][part.span]
        return of.own.get(part.source.customer_ref, of.price)


def together(stakes: Iterable[Stake]) -> list[tuple[Currency, int]]:
    """The amounts by currency, the most first; what has no amount is in none of them."""
    sums: dict[Currency, int] = defaultdict(int)
    for stake in stakes:
        if stake.amount is not None and stake.currency is not None:
            sums[stake.currency] += abs(stake.amount)
    return sorted(sums.items(), key=lambda pair: -money.major(pair[1], pair[0]))


_CURRENCIES = "its periods are priced in different currencies"
_NOTHING = "nothing of it is counted any more"
