"""One metric of a widget: its name, how much of it, what that costs, and why."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from metering.billing.days import LineDays
from metering.billing.projection import Line
from metering.catalog.period import Span
from pricing.graduated import Graduated
from pricing.numbers import ZERO
from pricing.price import Price
from pricing.volume import Volume
from webapp.widget import bars, geometry, sentences, steps, words
from webapp.widget.bars import Bar
from webapp.widget.figures import Figures
from webapp.widget.look import Look
from webapp.widget.steps import ENDLESS, Step


@dataclass(frozen=True)
class TierRow:
    """A line of the price table. used, comes_to: empty where nothing is in it."""

    units: str
    each: str
    used: str
    comes_to: str
    is_here: bool


@dataclass(frozen=True)
class Row:
    """key: of its ids; the same at every look.

    cost: an amount, or in words why there is none.
    """

    key: str
    name: str
    quantity: str
    unit: str
    cost: str
    is_amount: bool
    sentences: Sequence[str]
    bar: Bar | None
    tiers: Sequence[TierRow]

    @property
    def is_wide(self) -> bool:
        """Of the price table."""
        return geometry.is_wide([(t.units, t.each, t.used, t.comes_to) for t in self.tiers])


def key_of(metric: str) -> str:
    """A metric's name may hold anything; an id may not."""
    return hashlib.sha256(metric.encode()).hexdigest()[:8]


def name_of(line: Line) -> str:
    return line.usage.display_name or line.usage.metric


def row(each: LineDays, head: Span, look: Look, *, full: bool) -> Row:
    """full: with its bar and its prices."""
    # The number is the true one, also below zero; what is said of its cost is of what is billed.
    line, usage, say = each.line.as_billed, each.line.usage, look.say
    key, price = key_of(usage.metric), line.price.price
    said = sentences.of_line(line, each.days, say, look.now)
    if usage.delta:
        said.append(sentences.adjusted(usage, say))
    if usage.span != head:
        said.append(
            words.THIS_PERIODS.format(period=say.period(usage.span.start_at, usage.span.end_at))
        )
    return Row(
        key=key,
        name=name_of(line),
        quantity=say.quantity(usage.value),
        unit=sentences.unit(usage.unit, one=usage.value == 1) if usage.unit else "",
        cost=_cost(line, price, say),
        is_amount=line.amounts is not None and not _is_included(line, price),
        sentences=said,
        bar=bars.bar(line, key, name_of(line), look) if full else None,
        tiers=_tiers(line, price, say) if full and price is not None else [],
    )


def _is_included(line: Line, price: Price | None) -> bool:
    free = steps.included(price) if price is not None else ZERO
    return bool(free) and line.usage.value <= free


def _cost(line: Line, price: Price | None, say: Figures) -> str:
    if line.amounts is None:
        return words.NO_PRICE
    if _is_included(line, price):
        return words.INCLUDED
    return say.amount(line.amounts.current, line.amounts.currency)


def _tiers(line: Line, price: Price, say: Figures) -> list[TierRow]:
    """The price as a table, with what each part of it came to; empty of one price for all."""
    table = steps.of(price)
    if len(table) < 2 or not isinstance(price.model, Graduated | Volume):
        return []
    of, parts, value = price.currency, price.parts(line.usage.value), line.usage.value
    here, rows = steps.at(table, value), []
    for step in table:
        own = [part for part in parts if part.tier is not None and part.tier == step.tier]
        used = next((part.quantity for part in own if part.kind == "unit"), ZERO)
        if step.tier is None:
            used = min(value, step.upper)
        rows.append(
            TierRow(
                units=_units(step, say),
                each=_each(step, price, say),
                used=say.quantity(used) if used else "",
                comes_to=say.amount(sum(part.amount for part in own), of) if own and used else "",
                is_here=step is here and bool(value),
            )
        )
    for part in parts:
        if part.kind in ("minimum", "maximum"):
            text = words.TO_MINIMUM if part.kind == "minimum" else words.TO_MAXIMUM
            rows.append(TierRow(text, "", "", say.amount(part.amount, of), is_here=False))
    return rows


def _units(step: Step, say: Figures) -> str:
    if step.upper == ENDLESS:
        return words.OVER.format(lower=say.quantity(step.lower))
    if not step.lower:
        return words.UP_TO.format(upper=say.quantity(step.upper))
    return words.FROM_TO.format(lower=say.quantity(step.lower), upper=say.quantity(step.upper))


def _each(step: Step, price: Price, say: Figures) -> str:
    of = price.currency
    if step.is_free:
        return words.INCLUDED
    if not step.flat:
        return say.rate(step.unit, of)
    if not step.unit:
        return words.TIER_ONLY_FLAT.format(amount=say.rate(step.flat, of))
    return words.TIER_FLAT.format(each=say.rate(step.unit, of), amount=say.rate(step.flat, of))
