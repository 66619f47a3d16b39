"""A back-test as people read it: a sentence first, then who pays less, who more, and how far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from metering.billing import backtest, question
from metering.billing.models import Backtest, BacktestResult
from metering.billing.question import Repriced
from metering.catalog.models import Customer
from pricing import money
from pricing.backtest import BUCKETS, Summary
from pricing.definition import Price
from pricing.money import Currency
from webapp import shown
from webapp.simulations import presenters
from webapp.simulator.form import LETTERS, MODELS, Form, of_price

STATES = {
    "queued": "Waiting to begin",
    "running": "Pricing",
    "done": "Done",
    "failed": "Failed",
    "cancelled": "Cancelled",
}
# Under the bars there is room for no more.
_SHORT = (
    "≤ −50 %", "−50 to −25", "−25 to −10", "−10 to −5", "−5 to 0", "same", "0 to 5", "5 to 10",
    "10 to 25", "25 to 50", "50 to 100", "≥ 100 %", "from 0",
)  # fmt: skip


@dataclass(frozen=True)
class Tried:
    """One metric: what was paid, what was tried, and where both can be looked at."""

    metric: str
    aggregation: str
    baseline: str
    candidate: str
    query: str | None


@dataclass(frozen=True)
class Affected:
    """One of those whom it touches most."""

    customer: str
    name: str | None
    before: str
    after: str
    change: str
    percent: str


@dataclass(frozen=True)
class Page:
    """Everything of one back-test; `summary` is None before it is done."""

    id: str
    name: str
    state: str
    state_text: str
    error: str | None
    months: str
    tried: list[Tried]
    done: str
    percent: int | None
    asked_by: str
    asked_at: Any
    ended_at: Any
    sentence: str | None
    sides: list[tuple[str, str, str]]
    plot: dict[str, Any] | None
    table: list[tuple[str, str, str]]
    affected: list[Affected]
    customers: int

    @property
    def is_open(self) -> bool:
        return self.state in backtest.UNENDED


def page(
    found: Backtest, affected: Sequence[BacktestResult], names: Mapping[str, Customer]
) -> Page:
    """Work out what there is to say."""
    asked, of = question.read(found.question), money.currency(found.currency)
    summary = backtest.summary(found) if found.state == "done" else None
    progress = presenters.progress(found)
    total = progress["customersTotal"]
    of_all = f" of {total:,}" if total is not None else ""
    return Page(
        id=found.id,
        name=found.name,
        state=found.state,
        state_text=STATES[found.state],
        error=found.error,
        months=months_text([f"{month:%b %Y}" for month in asked.months]),
        tried=[_tried(each) for each in asked.metrics],
        done=f"{found.customers_done:,}{of_all} customers",
        percent=progress["percent"],
        asked_by=found.created_by.removeprefix("console:"),
        asked_at=found.created_at,
        ended_at=found.ended_at,
        sentence=presenters.sentence(summary, of) if summary else None,
        sides=_sides(summary, of) if summary else [],
        plot=_plot(summary) if summary else None,
        table=_table(summary, of) if summary else [],
        affected=[_affected(each, of, names) for each in affected],
        customers=summary.customers if summary else 0,
    )


def row(found: Backtest) -> dict[str, Any]:
    """One line of the list."""
    of, result = money.currency(found.currency), ""
    if found.state == "done":
        summary = backtest.summary(found)
        result = f"{shown.amount(summary.before, of)} → {shown.amount(summary.after, of)}"
    return {
        "id": found.id,
        "name": found.name,
        "state": STATES[found.state],
        "at": found.created_at,
        "result": result,
    }


def months_text(months: Sequence[str]) -> str:
    """`May 2026`, or `May 2026 to Jul 2026` with how many they are."""
    if len(months) == 1:
        return months[0]
    return f"{months[0]} to {months[-1]} ({len(months)} months)"


def _tried(each: Repriced) -> Tried:
    baseline = each.baseline.given
    given = [baseline, each.candidate] if baseline is not None else [each.candidate]
    return Tried(
        metric=each.metric,
        aggregation=each.aggregation,
        baseline=_title(baseline) if baseline is not None else "the mapped price of each month",
        candidate=_title(each.candidate),
        query=_query(given),
    )


def _title(price: Price) -> str:
    model = MODELS[price.model.kind][0].lower()
    return f"{price.nickname} ({model})" if price.nickname else model


def _query(prices: Sequence[Price]) -> str | None:
    try:
        made = [
            of_price(letter, price, price.nickname or "")
            for letter, price in zip(LETTERS, prices, strict=False)
        ]
    except ValueError:
        return None
    return Form(currency=prices[0].currency.code, quantity="1000", prices=tuple(made)).query()


def _sides(summary: Summary, of: Currency) -> list[tuple[str, str, str]]:
    """(who, how many, how much)."""
    return [
        ("Pay less", f"{summary.winners.customers:,}", shown.amount(summary.winners.amount, of)),
        ("Pay more", f"{summary.losers.customers:,}", shown.change(summary.losers.amount, of)),
        ("Pay the same", f"{summary.unchanged:,}", shown.amount(0, of)),
    ]


def _plot(summary: Summary) -> dict[str, Any]:
    return {
        "labels": list(_SHORT),
        "counts": [str(side.customers) for side in summary.buckets],
        "rotate": -45,
    }


def _table(summary: Summary, of: Currency) -> list[tuple[str, str, str]]:
    return [
        (
            each.label[:1].upper() + each.label[1:],
            f"{side.customers:,}",
            shown.change(side.amount, of),
        )
        for each, side in zip(BUCKETS, summary.buckets, strict=True)
    ]


def _affected(row: BacktestResult, of: Currency, names: Mapping[str, Customer]) -> Affected:
    known, change = names.get(row.customer_ref), int(row.change)
    share = presenters.percent_of(change, int(row.before))
    percent = "new" if share is None else f"{Decimal(share):,.1f} %".replace("-", shown.MINUS)
    return Affected(
        customer=row.customer_ref,
        name=known.name if known else None,
        before=shown.amount(int(row.before), of),
        after=shown.amount(int(row.after), of),
        change=shown.change(change, of),
        percent=f"+{percent}" if change > 0 and share is not None else percent,
    )
