"""A metric's usage as a bar against its prices: how far it is, and where the next price begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from metering.billing.projection import Line, is_early
from pricing.numbers import EXACT, ZERO
from pricing.package import Package
from pricing.price import Price
from pricing.volume import Volume
from webapp.widget import figures, steps, words
from webapp.widget.figures import Figures
from webapp.widget.geometry import Label, Rect
from webapp.widget.look import Look
from webapp.widget.steps import ENDLESS, Step

TOP, THICK, TEXT = 2.0, 8.0, 24.0
# More marks than this are a ruler, and nearer than this a finger meets two of them.
MOST_MARKS, NEAREST = 6, 8.5
# Where the next bound is so far away that the bar would hardly show, it is left out.
_FAR = Decimal("0.25")
_ROOM = Decimal("1.25")


@dataclass(frozen=True)
class Mark:
    """Where a price begins. says: from where on, and what it is."""

    id: str
    x: str
    says: str
    tip: Label


@dataclass(frozen=True)
class Bar:
    """expected: where the usage is heading, drawn lighter; None where nobody can tell."""

    name: str
    fill: Rect
    expected: Rect | None
    marks: Sequence[Mark]
    labels: Sequence[Label]


def bar(line: Line, key: str, name: str, look: Look) -> Bar | None:
    """None where there is nothing to compare the usage with. key: of its ids."""
    price = line.price.price
    if price is None:
        return None
    named = words.BAR.format(name=figures.name(name))
    if isinstance(price.model, Package):
        return _package(line.usage.value, price, price.model, named, look)
    table = steps.of(price)
    found = steps.bounds(table)
    if not found:
        return None
    value = line.usage.value
    expected = value
    if line.basis != "none" and not is_early(line, look.now):
        expected = max(value, line.projected.expected)
    end = _end(found, expected)
    fills, reaches = _share(value, end), _share(expected, end)
    chosen = _chosen(_by_weight(found, value, steps.included(price)), end)
    return Bar(
        name=named,
        fill=look.across.rect(0, fills, TOP, THICK),
        expected=look.across.rect(fills, reaches - fills, TOP, THICK) if reaches > fills else None,
        marks=[
            _mark(price, steps.after(table, bound), f"mark-{key}-{found.index(bound)}", end, look)
            for bound in sorted(chosen)
        ],
        labels=_labels(price, chosen, end, look),
    )


def _end(found: Sequence[Decimal], reach: Decimal) -> Decimal:
    """Where the bar ends: at the next bound, or some way beyond the usage."""
    ahead = next((bound for bound in found if reach <= bound), None)
    if ahead is not None and (ahead == found[0] or reach >= EXACT.multiply(ahead, _FAR)):
        return ahead
    return max(EXACT.multiply(reach, _ROOM), *[b for b in found if b < reach])


def _share(value: Decimal, end: Decimal) -> float:
    return min(100.0, float(value / end) * 100)


def _by_weight(found: Sequence[Decimal], value: Decimal, free: Decimal) -> list[Decimal]:
    """What is included first, then the next bound, then the last one passed, then the larger."""
    ahead = next((bound for bound in found if value <= bound), None)
    passed = next((bound for bound in reversed(found) if bound < value), None)
    return sorted(found, key=lambda bound: (bound != free, bound != ahead, bound != passed, -bound))


def _chosen(by_weight: Sequence[Decimal], end: Decimal) -> list[Decimal]:
    """The bounds that are marked, the weightiest first."""
    chosen: list[Decimal] = []
    for bound in by_weight:
        x = _share(bound, end)
        is_apart = all(abs(x - _share(other, end)) >= NEAREST for other in chosen)
        if bound <= end and is_apart and len(chosen) < MOST_MARKS:
            chosen.append(bound)
    return chosen


def _mark(price: Price, then: Step, own_id: str, end: Decimal, look: Look) -> Mark:
    x, says = _share(then.lower, end), _says(price, then, look.say)
    return Mark(own_id, look.across.percent(x), says, look.across.label(x, says))


def _says(price: Price, then: Step, say: Figures) -> str:
    bound, of = say.quantity(then.lower), price.currency
    if not then.unit:
        text = words.MARK_FREE.format(bound=bound)
        if then.flat:
            text = words.MARK_ONLY_FLAT.format(bound=bound, amount=say.rate(then.flat, of))
        return text
    is_for_all = isinstance(price.model, Volume) and not price.free_units
    text = (words.MARK_ALL if is_for_all else words.MARK_EACH).format(
        bound=bound, rate=say.rate(then.unit, of)
    )
    if then.flat:
        return words.MARK_FLAT.format(mark=text, amount=say.rate(then.flat, of))
    return text


def _labels(price: Price, chosen: Sequence[Decimal], end: Decimal, look: Look) -> list[Label]:
    """Numbers beneath the marks, as many as fit in a narrow frame."""
    free, labels = steps.included(price), list[Label]()
    for bound in chosen:
        text = look.say.quantity(bound)
        if bound == free:
            text = words.MARK_INCLUDED.format(bound=text)
        label = look.across.label(_share(bound, end), text)
        if not any(label.touches(other) for other in labels):
            labels.append(label)
    return labels


def _package(value: Decimal, price: Price, model: Package, named: str, look: Look) -> Bar | None:
    """How full the begun package is: what is in it is paid for already."""
    size = Decimal(model.size)
    if size == 1 or steps.included(price) == ENDLESS:
        return None
    begun = max(ZERO, (value / size).to_integral_value(ROUND_CEILING) - 1)
    used = EXACT.subtract(value, EXACT.multiply(begun, size))
    text = words.MARK_PACKAGE.format(used=look.say.quantity(used), size=look.say.quantity(size))
    return Bar(
        name=named,
        fill=look.across.rect(0, _share(used, size), TOP, THICK),
        expected=None,
        marks=[],
        labels=[look.across.label(0, text)],
    )
