"""What the simulator's page shows: sentences, an invoice for each price, the plot and its table."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pricing import curve, money
from pricing.curve import Crossover, Fall
from pricing.definition import Price
from pricing.graduated import Graduated
from pricing.money import Currency
from pricing.numbers import EXACT, ZERO, plain
from pricing.package import Package
from pricing.part import Part
from pricing.presentation import average
from pricing.volume import Volume
from webapp import shown
from webapp.simulator.checking import Checked
from webapp.simulator.form import Form

POINTS, ROWS, SEARCHED = 96, 12, 120
# A plot that spans this much of the quantity asked for shows what comes next as well.
AHEAD = Decimal(2)
# More of one pair are a staircase, told in one sentence.
MOST_CROSSOVERS = 4


@dataclass(frozen=True)
class InvoiceRow:
    """One of Stripe's lines: `Units 1 to 10,000`, `10,000 × $0.01`, `$100.00`."""

    what: str
    arithmetic: str
    amount: str
    rounded_from: str | None


@dataclass(frozen=True)
class Result:
    """One price at the quantity asked for."""

    letter: str
    title: str
    total: str
    amount: int
    average: str | None
    marginal: str
    rows: list[InvoiceRow]
    falls: list[str]
    difference: str | None = None


@dataclass(frozen=True)
class Page:
    """Everything right of the editor; `results` is empty while nothing can be worked out."""

    sentence: str
    explanations: list[str]
    results: list[Result]
    plot: dict[str, Any] | None
    table: dict[str, Any] | None


def page(form: Form, checked: Checked) -> Page:
    """Work out what can be: prices with mistakes are left out and the others shown."""
    if not checked.prices:
        return Page("Nothing to work out yet: no price is complete.", [], [], None, None)
    if "quantity" in checked.errors or "range" in checked.errors:
        return Page("Nothing to work out: mend the quantity first.", [], [], None, None)
    quantity = checked.quantity if checked.quantity is not None else ZERO
    letters = list(checked.prices)
    prices = [checked.prices[letter] for letter in letters]
    titles = [price.title for price in form.prices if price.letter in checked.prices]
    of = prices[0].currency
    results = _results(letters, titles, prices, quantity)
    up_to = checked.range or default_range(prices, quantity)
    crossed = curve.crossovers(prices, up_to, SEARCHED) if len(prices) > 1 else []
    return Page(
        sentence=_sentence(results, quantity, of),
        explanations=_crossings(crossed, titles),
        results=results,
        plot=_plot(letters, titles, prices, crossed, quantity, up_to),
        table=_table(titles, prices, quantity, up_to),
    )


def default_range(prices: Sequence[Price], quantity: Decimal) -> Decimal:
    """How far the plot reaches where nobody says: beyond the quantity and every tier."""
    bounds = [bound for price in prices for bound in curve.boundaries(price)]
    furthest = max([quantity * AHEAD, *(bound * Decimal("1.25") for bound in bounds)])
    if furthest == 0:
        return Decimal(100)
    # Up to a round number: 1, 2, 2.5 or 5 times a power of ten.
    power = Decimal(1).scaleb(furthest.adjusted())
    for step in ("1", "1.5", "2", "2.5", "4", "5", "7.5", "10"):
        if power * Decimal(step) >= furthest:
            return power * Decimal(step)
    return power * 10


def _results(
    letters: Sequence[str], titles: Sequence[str], prices: Sequence[Price], quantity: Decimal
) -> list[Result]:
    amounts = [price.amount(quantity) for price in prices]
    found = []
    for i, price in enumerate(prices):
        of = price.currency
        difference = None
        if i and amounts[i] != amounts[0]:
            difference = shown.change(amounts[i] - amounts[0], of)
        found.append(
            Result(
                letter=letters[i],
                title=titles[i],
                total=shown.amount(amounts[i], of),
                amount=amounts[i],
                average=_average(price, amounts[i], quantity),
                marginal=shown.rate(price.marginal(quantity), of),
                rows=[_row(price, part) for part in price.parts(quantity)],
                falls=[_fall(fall, of) for fall in curve.falls(price)],
                difference=difference,
            )
        )
    return found


def _average(price: Price, amount: int, quantity: Decimal) -> str | None:
    if not quantity:
        return None
    each = average(Decimal(amount), quantity)
    # Six decimals of the major unit say enough of an average.
    return shown.rate(money.quantized(each, max(0, 6 - price.currency.digits)), price.currency)


def _row(price: Price, part: Part) -> InvoiceRow:
    of = price.currency
    exact = part.exact != part.amount
    arithmetic = ""
    if part.kind in ("unit", "package"):
        arithmetic = f"{shown.quantity(part.quantity)} × {shown.rate(part.unit_amount, of)}"
    return InvoiceRow(
        what=_what(price, part),
        arithmetic=arithmetic,
        amount=shown.amount(part.amount, of),
        rounded_from=shown.rate(part.exact, of) if exact else None,
    )


def _what(price: Price, part: Part) -> str:
    match part.kind:
        case "package":
            assert isinstance(price.model, Package)
            return f"Packages of {shown.quantity(Decimal(price.model.size))}"
        case "fee":
            return "Fixed fee"
        case "minimum":
            return "Up to the minimum charge"
        case "maximum":
            return "Down to the maximum charge"
    if part.tier is None:
        return "Units"
    name = f"Tier {part.tier + 1}"
    if part.kind == "flat":
        return f"{name}, flat price"
    return f"{name}, {_bounds(price, part.tier)}"


def _bounds(price: Price, position: int) -> str:
    """`units up to 10,000`, `units above 50,000`."""
    assert isinstance(price.model, Graduated | Volume)
    table = price.model.tiers
    lower = table[position - 1].up_to if position else None
    upper = table[position].up_to
    if upper is None:
        return f"above {shown.quantity(lower)}" if lower is not None else "all units"
    if lower is None:
        return f"up to {shown.quantity(upper)}"
    return f"above {shown.quantity(lower)} to {shown.quantity(upper)}"


def _fall(fall: Fall, of: Currency) -> str:
    at = shown.quantity(fall.quantity)
    text = (
        f"Above {at} the total falls from {shown.rate(fall.before, of)} to"
        f" {shown.rate(money.quantized(fall.after, 2), of)}"
    )
    if fall.until is None:
        return f"{text} and never costs as much again."
    until = shown.quantity(fall.until)
    return f"{text}: until {until}, using more costs less than using {at}."


def _sentence(results: Sequence[Result], quantity: Decimal, of: Currency) -> str:
    units = f"{shown.quantity(quantity)} unit{'' if quantity == 1 else 's'}"
    if len(results) == 1:
        return f"{units} cost{'s' if quantity == 1 else ''} {results[0].total}."
    ordered = sorted(results, key=lambda result: result.amount)
    first, second = ordered[0], ordered[1]
    if first.amount == ordered[-1].amount:
        return f"At {units} all of them cost {first.total}."
    if first.amount == second.amount:
        tied = [result.title for result in ordered if result.amount == first.amount]
        names = f"{', '.join(tied[:-1])} and {tied[-1]}"
        return f"At {units}, {names} cost the least: {first.total}."
    saved = shown.amount(second.amount - first.amount, of)
    lead = f"At {units}, {first.title} costs the least: {first.total}"
    return f"{lead}, {saved} less than {second.title}."


def _pairs(crossed: Sequence[Crossover]) -> list[list[Crossover]]:
    """The crossovers of each pair of prices, in order."""
    pairs: dict[frozenset[int], list[Crossover]] = {}
    for each in crossed:
        pairs.setdefault(frozenset((each.cheaper, each.than)), []).append(each)
    return list(pairs.values())


def _crossings(crossed: Sequence[Crossover], titles: Sequence[str]) -> list[str]:
    """A sentence for each crossover; one for the pair where a staircase crosses many times."""
    sentences = []
    for pair in _pairs(crossed):
        named = [
            f"{titles[each.cheaper]} is cheaper than {titles[each.than]}"
            f" above {shown.quantity(each.quantity)}."
            for each in pair
        ]
        if len(pair) > MOST_CROSSOVERS:
            first, last = pair[0], pair[-1]
            sentences.append(
                f"{titles[last.cheaper]} and {titles[last.than]} cross {len(pair)} times between"
                f" {shown.quantity(first.quantity)} and {shown.quantity(last.quantity)};"
                f" above that, {titles[last.cheaper]} is cheaper."
            )
        else:
            sentences += named
    return sentences


def _marked(crossed: Sequence[Crossover]) -> list[Crossover]:
    """What the plot marks: every crossover of a pair, or the last of very many."""
    return [
        each
        for pair in _pairs(crossed)
        for each in (pair if len(pair) <= MOST_CROSSOVERS else pair[-1:])
    ]


def _plot(
    letters: Sequence[str],
    titles: Sequence[str],
    prices: Sequence[Price],
    crossed: Sequence[Crossover],
    quantity: Decimal,
    up_to: Decimal,
) -> dict[str, Any]:
    """The plot's data. Numbers are decimal strings in major units; only pixels are made of them."""
    of = prices[0].currency
    grid = sorted({point.quantity for p in prices for point in curve.curve(p, up_to, POINTS)})
    return {
        "x": [plain(q) for q in grid],
        "series": [
            {
                "letter": letter,
                "title": title,
                "y": [plain(money.major(price.charge(q), of)) for q in grid],
                "steps": [plain(bound) for bound in curve.boundaries(price) if bound <= up_to],
            }
            for letter, title, price in zip(letters, titles, prices, strict=True)
        ],
        "crossovers": [
            {
                "x": plain(each.quantity),
                "y": plain(money.major(prices[each.cheaper].charge(each.quantity), of)),
            }
            for each in _marked(crossed)
        ],
        "quantity": plain(quantity),
        "currency": of.code.upper(),
        "digits": of.digits,
    }


def _table(
    titles: Sequence[str], prices: Sequence[Price], quantity: Decimal, up_to: Decimal
) -> dict[str, Any]:
    """The plot as rows: even steps, every tier's bound and the quantity itself."""
    return {
        "titles": titles,
        "rows": [
            [
                shown.quantity(q),
                *(shown.amount(price.charge(q), price.currency) for price in prices),
            ]
            for q in quantities(prices, quantity, up_to)
        ],
    }


def quantities(prices: Sequence[Price], quantity: Decimal, up_to: Decimal) -> list[Decimal]:
    """What a table of the curve lists."""
    step = EXACT.divide_int(EXACT.scaleb(up_to, 12), Decimal(ROWS)).scaleb(-12)
    even = {EXACT.multiply(step, Decimal(i)) for i in range(ROWS)} | {up_to, quantity}
    bounds = {bound for price in prices for bound in curve.boundaries(price)}
    return sorted(q for q in even | bounds if q <= max(up_to, quantity))
