"""What is said of one metric: how its cost comes about, what the next unit costs, what changed."""

import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from functools import reduce

from metering.billing.days import DayUse
from metering.billing.projection import Line, is_early
from metering.catalog.period import Span
from metering.counters.usage import MetricUsage
from pricing.flat import Flat
from pricing.money import Currency
from pricing.numbers import EXACT, ZERO
from pricing.package import Package
from pricing.part import Part
from pricing.per_unit import PerUnit
from pricing.price import Price
from pricing.volume import Volume
from webapp import shown
from webapp.widget import figures, steps, words
from webapp.widget.figures import Figures
from webapp.widget.steps import ENDLESS, Step

_ACCUMULATING = ("sum", "count")
_PLURAL = re.compile("[a-z][a-z -]{2,}s")
_NO_PLURAL = ("ss", "us", "is")
_ES = ("sses", "xes", "shes", "tches")


def counted(count: int, forms: tuple[str, str], say: Figures) -> str:
    """`1 event`, `1,200 events`."""
    return forms[0] if count == 1 else forms[1].format(count=say.quantity(count))


def unit(of: str | None, *, one: bool) -> str:
    """The unit's name; a plural in plain English letters is told from its singular."""
    if not of:
        return words.A_UNIT if one else words.UNITS
    if one and _PLURAL.fullmatch(of) and not of.endswith(_NO_PLURAL):
        of = f"{of[:-3]}y" if of.endswith("ies") else of[:-2] if of.endswith(_ES) else of[:-1]
    return figures.name(of)


def last_day(span: Span, say: Figures) -> str:
    """The period's, with its year where that may be misread."""
    is_long = shown.is_long(span.start_at, span.end_at)
    return say.day(shown.last_day(span.end_at), year=is_long)


def of_line(line: Line, days: Sequence[DayUse], say: Figures, now: datetime) -> list[str]:
    """Sentences, the one that explains the cost first."""
    price, said = line.price.price, []
    if price is not None:
        said.append(_cost(line, price, say))
        said += _pace(line, price, days, say, now)
        for at in line.price.changed_at:
            text = words.PRICE_CHANGED if at <= now else words.PRICE_CHANGES
            said.append(text.format(day=say.day(at)))
    if line.usage.is_carried and line.usage.aggregation == "last":
        said.append(words.CARRIED)
    if line.usage.aggregation == "unique" and not line.usage.unique_complete:
        said.append(words.INCOMPLETE)
    return [figures.ended(text) for text in said]


def adjusted(usage: MetricUsage, say: Figures) -> str:
    """What of the number is no usage of the period's own."""
    text = words.ADDED if usage.delta > 0 else words.TAKEN_OFF
    if usage.value < 0:
        text = words.BELOW_ZERO
    units = unit(usage.unit, one=abs(usage.delta) == 1)
    return text.format(count=say.quantity(usage.delta), units=units)


def _cost(line: Line, price: Price, say: Figures) -> str:
    quantity, of = line.usage.value, price.currency
    parts = price.parts(quantity)
    bound = next((part for part in parts if part.kind in ("minimum", "maximum")), None)
    if bound is not None:
        text = words.MINIMUM if bound.kind == "minimum" else words.MAXIMUM
        limit = price.minimum_charge if bound.kind == "minimum" else price.maximum_charge
        amount = say.amount(sum(part.amount for part in parts if part is not bound), of)
        return text.format(bound=say.amount(limit or ZERO, of), amount=amount)
    if isinstance(price.model, Flat):
        return words.FEE
    free = steps.included(price)
    if free == ENDLESS:
        return words.ALL_INCLUDED
    if free and quantity <= free:
        return _within(line, price, free, say)
    if isinstance(price.model, Package):
        return _packages(line, price, price.model, say)
    if not quantity:
        return _sentence(_next(line, price, say))
    if isinstance(price.model, PerUnit) and not free and line.usage.aggregation in _ACCUMULATING:
        rate = say.rate(price.model.unit_amount, of)
        return words.EACH.format(unit=unit(line.usage.unit, one=True), rate=rate)
    if isinstance(price.model, Volume):
        product = _volume(parts, of, say)
    else:
        product = _graduated(line, price, parts, free, say)
    return _sentence(f"{product}; {_next(line, price, say)}")


def _within(line: Line, price: Price, free: Decimal, say: Figures) -> str:
    """Nothing to pay yet."""
    of = price.currency
    used = words.OF_INCLUDED.format(
        used=say.quantity(line.usage.value),
        most=say.quantity(free),
        units=unit(line.usage.unit, one=False),
    )
    if isinstance(price.model, Package):
        size, rate = say.quantity(price.model.size), say.rate(price.model.unit_amount, of)
        return used + words.THEN_PACKAGE.format(size=size, rate=rate)
    then = steps.after(steps.of(price), free)
    if then.flat:
        begins = say.rate(then.flat, of)
        if not then.unit:
            return used + words.THEN_AT_ONCE.format(amount=begins)
        return used + words.THEN_BOTH.format(amount=begins, rate=say.rate(then.unit, of))
    text = words.THEN_ALL if _reprices(price) else words.THEN_EACH
    return used + text.format(rate=say.rate(then.unit, of))


def _reprices(price: Price) -> bool:
    """Whether what is beyond a bound changes what was within it."""
    return isinstance(price.model, Volume) and not price.free_units


def _graduated(line: Line, price: Price, parts: Sequence[Part], free: Decimal, say: Figures) -> str:
    quantity, of = line.usage.value, price.currency
    step = steps.at(steps.of(price), quantity)
    own = next((part for part in parts if part.tier in (step.tier, None) and _is_units(part)), None)
    rest = sum(part.amount for part in parts if part is not own)
    if own is None or not step.unit:
        if not step.lower and step.upper != ENDLESS:
            return words.OF_BOUGHT.format(
                used=say.quantity(quantity),
                most=say.quantity(step.upper),
                units=unit(line.usage.unit, one=False),
                amount=say.amount(rest, of),
            )
        text, rate = words.ABOVE_FREE, ""
    else:
        text, rate = words.ABOVE, say.rate(step.unit, of)
        if not step.lower:
            text = words.PRODUCT
        elif step.lower == free:
            text = words.ABOVE_INCLUDED
    product = text.format(
        count=say.quantity(EXACT.subtract(quantity, step.lower)),
        bound=say.quantity(step.lower),
        most=say.quantity(step.lower),
        rate=rate,
    )
    return product + (words.ON_TOP.format(amount=say.amount(rest, of)) if rest else "")


def _is_units(part: Part) -> bool:
    return part.kind == "unit"


def _volume(parts: Sequence[Part], of: Currency, say: Figures) -> str:
    own = next((part for part in parts if _is_units(part) and part.unit_amount), None)
    rest = sum(part.amount for part in parts if part is not own)
    if own is None:
        return words.AT_ONCE.format(amount=say.amount(rest, of))
    product = words.ALL_AT.format(
        count=say.quantity(own.quantity), rate=say.rate(own.unit_amount, of)
    )
    return product + (words.ON_TOP.format(amount=say.amount(rest, of)) if rest else "")


def _packages(line: Line, price: Price, model: Package, say: Figures) -> str:
    """How many are paid, and how far that reaches."""
    quantity, size = line.usage.value, Decimal(model.size)
    rate, of_size = say.rate(model.unit_amount, price.currency), say.quantity(size)
    if not quantity:
        units = unit(line.usage.unit, one=False)
        return words.A_PACKAGE.format(size=of_size, units=units, rate=rate)
    billed = price.billed_units(quantity)
    forms = words.PACKAGES if model.round == "up" else words.FULL_PACKAGES
    count = say.quantity(billed)
    product = (forms[0] if billed == 1 else forms[1]).format(count=count, size=of_size, rate=rate)
    reach = EXACT.multiply(EXACT.add(billed, price.free_units), size)
    if model.round == "down":
        bound = say.quantity(EXACT.add(reach, size))
        return f"{product}; {words.FULL_AT.format(bound=bound)}."
    left = EXACT.subtract(reach, quantity)
    one = unit(line.usage.unit, one=True)
    if not left:
        return f"{product}; {words.OPENS.format(unit=one, rate=rate)}."
    form = words.PAID_FOR[0] if left == 1 else words.PAID_FOR[1]
    named = one if left == 1 else unit(line.usage.unit, one=False)
    return f"{product}; {form.format(count=say.quantity(left), units=named)}."


def _next(line: Line, price: Price, say: Figures) -> str:
    """What one more unit costs, to the digit."""
    costs, of = price.marginal(line.usage.value), price.currency
    one = unit(line.usage.unit, one=True)
    if costs < 0:
        return words.NEXT_LOWERS.format(unit=one, amount=say.rate(-costs, of))
    grows = line.usage.aggregation in _ACCUMULATING
    if not costs:
        return (words.NEXT_FREE if grows else words.ONE_MORE_FREE).format(unit=one)
    return (words.NEXT if grows else words.ONE_MORE).format(unit=one, rate=say.rate(costs, of))


def _pace(
    line: Line, price: Price, days: Sequence[DayUse], say: Figures, now: datetime
) -> list[str]:
    """Which bound was passed today, and which one will be."""
    table, free, value = steps.of(price), steps.included(price), line.usage.value
    found, said = steps.bounds(table), []
    before = _before_today(line, days, now)
    passed = [bound for bound in found if before is not None and before <= bound < value]
    if passed:
        said.append(_passed(line, price, steps.after(table, passed[-1]), free, say, now))
    if line.basis == "none" or is_early(line, now):
        return said
    expected, last = line.projected.expected, last_day(line.usage.span, say)
    ahead = [bound for bound in found if value <= bound < expected]
    if ahead:
        text = words.WILL_PASS_INCLUDED if ahead[0] == free else words.WILL_PASS
        said.append(text.format(bound=say.quantity(ahead[0]), day=last))
    elif value and expected <= free < ENDLESS:
        said.append(words.STAYS_INCLUDED)
    return said


def _passed(
    line: Line, price: Price, then: Step, free: Decimal, say: Figures, now: datetime
) -> str:
    text = words.PASSED_INCLUDED if then.lower == free else words.PASSED
    said = text.format(bound=say.quantity(then.lower), day=say.day(now))
    if not then.unit:
        return f"{said}."
    rate = say.rate(then.unit, price.currency)
    if _reprices(price):
        return said + words.PASSED_ALL.format(rate=rate)
    return said + words.PASSED_EACH.format(unit=unit(line.usage.unit, one=True), rate=rate)


def _before_today(line: Line, days: Sequence[DayUse], now: datetime) -> Decimal | None:
    """The reading as today began; None where it cannot be told."""
    today = next((i for i, day in enumerate(days) if day.start_at <= now < day.end_at), None)
    if today is None:
        return None
    earlier = [day.quantity for day in days[:today]]
    match line.usage.aggregation:
        case "sum" | "count":
            return reduce(EXACT.add, earlier, ZERO)
        case "last":
            return earlier[-1] if earlier else ZERO
        case _:
            return max(earlier, default=ZERO)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
