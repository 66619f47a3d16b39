"""What-if on real usage: the same quantities under two prices, customer by customer.

Amounts are whole minor units, as an invoice would bill them: each month's lines are rounded on
their own under either price, and only then summed up.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

from pricing.definition import Price
from pricing.errors import PricingError

# Edges of the histogram's buckets, in percent of what the customer paid before. Fixed, so that two
# back-tests can be laid side by side.
FALLS = (-5, -10, -25, -50)
RISES = (5, 10, 25, 50, 100)

Amount = Callable[[Decimal], int]
Period = TypeVar("Period", bound=Hashable)
# Customer, metric, period, quantity.
Row = tuple[str, str, Period, Decimal]


class Pair(NamedTuple):
    """What a quantity is billed under the price of today and under the one tried out."""

    before: Amount
    after: Amount


class Outcome(NamedTuple):
    """One customer under both prices. periods: in how many (metric, period) something was used."""

    customer: str
    before: int
    after: int
    periods: int

    @property
    def change(self) -> int:
        return self.after - self.before


def pair(baseline: Price, candidate: Price) -> Pair:
    """Both prices' amounts; PricingError if they are of different currencies."""
    if baseline.currency != candidate.currency:
        raise PricingError(
            "currency",
            f"differs: {candidate.currency.code} here, {baseline.currency.code} in the price it"
            " is compared with; amounts of two currencies cannot be set against each other",
        )
    return Pair(baseline.amount, candidate.amount)


def reprice(
    rows: Iterable[Row[Period]], pairs: Mapping[tuple[str, Period], Pair]
) -> Iterator[Outcome]:
    """Price every row twice and sum up by customer.

    rows: all of a customer together.
    Raises: PricingError naming the customer and metric whose quantity has no price.
    """
    current: str | None = None
    before = after = periods = 0
    for customer, metric, period, quantity in rows:
        if customer != current:
            if current is not None:
                yield Outcome(current, before, after, periods)
            current, before, after, periods = customer, 0, 0, 0
        amount_before, amount_after = pairs[metric, period]
        try:
            before += amount_before(quantity)
            after += amount_after(quantity)
        except (PricingError, ArithmeticError) as error:
            raise PricingError(
                f"{metric} of {customer}", f"{_short(quantity)} units have no price: {error}"
            ) from None
        periods += 1
    if current is not None:
        yield Outcome(current, before, after, periods)


def _short(quantity: Decimal) -> str:
    return f"{quantity:.6e}" if quantity.adjusted() > 30 else f"{quantity:f}"


@dataclass(frozen=True)
class Bucket:
    """Changes from `low` to `high` percent of what was paid before; None: open.

    An edge belongs to the larger change: 5 % less is in "5 to 10 % less".
    """

    label: str
    low: int | None
    high: int | None


def _side(edges: tuple[int, ...], word: str) -> list[Bucket]:
    """The buckets of one direction, from the smallest change to the largest."""
    found = [Bucket(f"under {abs(edges[0])} % {word}", 0, edges[0])]
    for near, far in pairwise(edges):
        found.append(Bucket(f"{abs(near)} to {abs(far)} % {word}", near, far))
    found.append(Bucket(f"{abs(edges[-1])} % {word} and beyond", edges[-1], None))
    return found


BUCKETS = (
    *reversed(_side(FALLS, "less")),
    Bucket("the same", 0, 0),
    *_side(RISES, "more"),
    Bucket("paid nothing before", None, None),
)


@dataclass
class Side:
    """Those who would pay less, or those who would pay more. amount: the sum of their changes."""

    customers: int = 0
    amount: int = 0

    def add(self, change: int) -> None:
        self.customers += 1
        self.amount += change


@dataclass
class Summary:
    """All customers together; what two halves come to is what the whole comes to.

    winners pay less, losers pay more.  buckets: by `BUCKETS`, the distribution of changes.
    """

    customers: int = 0
    periods: int = 0
    before: int = 0
    after: int = 0
    unchanged: int = 0
    winners: Side = field(default_factory=Side)
    losers: Side = field(default_factory=Side)
    buckets: list[Side] = field(default_factory=lambda: [Side() for _ in BUCKETS])

    @property
    def change(self) -> int:
        return self.after - self.before

    def add(self, outcome: Outcome) -> None:
        """Count one more customer."""
        change = outcome.after - outcome.before
        self.customers += 1
        self.periods += outcome.periods
        self.before += outcome.before
        self.after += outcome.after
        self.buckets[bucket(outcome.before, outcome.after)].add(change)
        if change < 0:
            self.winners.add(change)
        elif change > 0:
            self.losers.add(change)
        else:
            self.unchanged += 1

    def to_json(self) -> dict[str, Any]:
        """As plain numbers and lists, to be kept between two chunks."""
        totals = (self.customers, self.periods, self.before, self.after, self.unchanged)
        sides = [[s.customers, s.amount] for s in (self.winners, self.losers, *self.buckets)]
        return {"totals": list(totals), "sides": sides}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> "Summary":
        customers, periods, before, after, unchanged = kept["totals"]
        winners, losers, *buckets = (Side(*each) for each in kept["sides"])
        return cls(customers, periods, before, after, unchanged, winners, losers, buckets)


_SAME = len(FALLS) + 1


def bucket(before: int, after: int) -> int:
    """Which of `BUCKETS` a change belongs to."""
    scaled = (after - before) * 100
    if scaled == 0:
        return _SAME
    if before <= 0:
        return len(BUCKETS) - 1
    if scaled < 0:
        return _SAME - 1 - sum(scaled <= edge * before for edge in FALLS)
    return _SAME + 1 + sum(scaled >= edge * before for edge in RISES)
