"""What a price costs over usage: the plot's points, its steps, and where two prices cross."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_FLOOR, Decimal
from fractions import Fraction
from itertools import pairwise

from pricing.definition import Price
from pricing.graduated import Graduated
from pricing.money import quantized
from pricing.numbers import EXACT, MAX_DECIMALS, ZERO
from pricing.package import Package
from pricing.proration import shared
from pricing.volume import Volume

# The smallest step of a quantity: what lies just above an inclusive bound.
JUST = Decimal(1).scaleb(-MAX_DECIMALS)
# Nobody uses more: what has not caught up by then never does.
FURTHEST = Decimal(10) ** 18


@dataclass(frozen=True, slots=True)
class Point:
    """amount: the exact charge, minor units."""

    quantity: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Crossover:
    """From just above `quantity` on, prices[cheaper] costs less than prices[than], until the next
    crossover of the two."""

    quantity: Decimal
    cheaper: int
    than: int


@dataclass(frozen=True, slots=True)
class Fall:
    """Above `quantity` the charge drops from `before` to `after` (minor units, exact).

    until: up to here more usage costs less than `quantity` does; None if that never ends.
    """

    quantity: Decimal
    before: Decimal
    after: Decimal
    until: Decimal | None


def boundaries(price: Price) -> list[Decimal]:
    """The inclusive upper bounds of its tiers, as quantities used (free units included)."""
    if not isinstance(price.model, Graduated | Volume):
        return []
    bounds = [tier.up_to for tier in price.model.tiers if tier.up_to is not None]
    return [EXACT.add(bound, price.free_units) for bound in bounds]


def curve(price: Price, up_to: Decimal, points: int = 200) -> list[Point]:
    """The charge from 0 to `up_to`: evenly spaced points, and both sides of every step."""
    at = {EXACT.multiply(up_to, Decimal(i)) for i in range(points + 1)}
    quantities = {quantized(_part(number, points), MAX_DECIMALS) for number in at}
    for bound in _steps(price, up_to):
        quantities |= {bound, EXACT.add(bound, JUST)}
    return [Point(q, price.charge(q)) for q in sorted(quantities) if q <= up_to]


def _part(number: Decimal, points: int) -> Decimal:
    whole = EXACT.divide_int(EXACT.scaleb(number, MAX_DECIMALS), Decimal(points))
    return EXACT.scaleb(whole, -MAX_DECIMALS)


def _steps(price: Price, up_to: Decimal, most: int = 200) -> list[Decimal]:
    """Where the charge may jump or bend, in [0, up_to]; for packages at most so many of them."""
    if isinstance(price.model, Package):
        count = min(most, int(up_to / price.model.size))
        return [ZERO, *(Decimal(price.model.size * (i + 1)) for i in range(count))]
    steps = sorted({ZERO, price.free_units, *boundaries(price), up_to})
    found = [step for step in steps if step <= up_to]
    return sorted({*found, *_bends(price, found)})


def _bends(price: Price, steps: Sequence[Decimal]) -> list[Decimal]:
    """Where a minimum or maximum charge begins or ends to count, between two steps."""
    free = replace(price, minimum_charge=None, maximum_charge=None, others=())
    found = []
    for low, high in pairwise(steps):
        first, last = free.charge(EXACT.add(low, JUST)), free.charge(high)
        for bound in (price.minimum_charge, price.maximum_charge):
            if bound is not None and first < bound < last:
                # The charge is a straight line from here to there.
                share = Fraction(EXACT.subtract(bound, first)) / Fraction(
                    EXACT.subtract(last, first)
                )
                found.append(EXACT.add(low, shared(EXACT.subtract(high, low), share)))
    return found


def falls(price: Price) -> list[Fall]:
    """Where a volume price drops, so that using more costs less."""
    found = []
    for bound in boundaries(price):
        before, after = price.charge(bound), price.charge(EXACT.add(bound, JUST))
        if after < before:
            found.append(Fall(bound, before, after, _caught_up(price, bound, before)))
    return found


def _caught_up(price: Price, bound: Decimal, before: Decimal) -> Decimal | None:
    """From where on using more costs at least as much as `bound` did, for the first time; a whole
    quantity where a tier does not begin there. None: never."""
    edges = [edge for edge in boundaries(price) if edge > bound]
    low = bound
    for high in [*edges, None]:
        if low > bound and price.charge(EXACT.add(low, JUST)) >= before:
            return low
        last = high if high is not None else _far_enough(price, low, before)
        if last is None:
            return None
        if price.charge(last) >= before:
            # Within a tier more never costs less.
            below = low

            def is_short(quantity: Decimal, below: Decimal = below) -> bool:
                return quantity <= below or price.charge(quantity) < before

            return min(EXACT.add(_last(is_short, low, last + 1, 0), Decimal(1)), last)
        low = last
    return None


def _far_enough(price: Price, low: Decimal, before: Decimal) -> Decimal | None:
    """Some quantity of the last tier that costs as much; None if none does."""
    high = EXACT.add(low, Decimal(1))
    while price.charge(high) < before:
        high = EXACT.multiply(high, Decimal(2))
        if high > FURTHEST:
            return None
    return high


def crossovers(prices: Sequence[Price], up_to: Decimal, points: int = 400) -> list[Crossover]:
    """Where the order of two prices changes within (0, up_to], to a whole unit where it can be.

    Looked for between neighbouring points that include both sides of every step, so that one
    between two points of the same straight stretch is never missed; a pair of package prices with
    more than 200 steps is looked at in steps of up_to/points.
    """
    grid = sorted({point.quantity for price in prices for point in curve(price, up_to, points)})
    table = [[price.charge(q) for q in grid] for price in prices]
    found = []
    for a in range(len(prices)):
        for b in range(a + 1, len(prices)):
            found += _pair(prices, a, b, grid, table)
    return sorted(found, key=lambda crossover: (crossover.quantity, crossover.cheaper))


def _pair(
    prices: Sequence[Price], a: int, b: int, grid: list[Decimal], table: list[list[Decimal]]
) -> list[Crossover]:
    found, leader, since = [], 0, ZERO
    for i, quantity in enumerate(grid):
        order = _order(table[a][i], table[b][i])
        if order and leader and order != leader:
            at = _crossing(prices[a], prices[b], since, quantity, leader)
            cheaper, than = (a, b) if order < 0 else (b, a)
            found.append(Crossover(at, cheaper, than))
        if order:
            leader, since = order, quantity
    return found


def _order(left: Decimal, right: Decimal) -> int:
    """-1 if the left one is cheaper, 1 if the right one is, 0 if they cost the same."""
    return (left > right) - (left < right)


def _crossing(a: Price, b: Price, low: Decimal, high: Decimal, leader: int) -> Decimal:
    """The last quantity, a whole one if there is one, at which `leader` still holds or both cost
    the same. It holds at `low` and no more at `high`."""

    def holds(quantity: Decimal) -> bool:
        return _order(a.charge(quantity), b.charge(quantity)) in (leader, 0)

    whole = _last(holds, low.to_integral_value(ROUND_FLOOR), high + 1, 0)
    if 0 < whole < high and holds(whole) and not holds(whole + 1):
        return whole
    return _last(holds, low, high, MAX_DECIMALS)


def _last(holds: Callable[[Decimal], bool], low: Decimal, high: Decimal, places: int) -> Decimal:
    """By halving: the last of the numbers of so many decimals from `low` on that holds."""
    last, after = int(EXACT.scaleb(low, places)), int(EXACT.scaleb(high, places))
    while after - last > 1:
        middle = (last + after) // 2
        if holds(EXACT.scaleb(Decimal(middle), -places)):
            last = middle
        else:
            after = middle
    return EXACT.scaleb(Decimal(last), -places)
