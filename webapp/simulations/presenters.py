"""Back-tests in words and in the API's form. Amounts: decimal strings in major units, and minor."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from metering.billing import backtest, question
from metering.billing.baseline import Baseline
from metering.billing.models import Backtest, BacktestResult
from metering.catalog.models import Customer
from pricing import money
from pricing.backtest import BUCKETS, Side, Summary
from pricing.money import Currency
from pricing.numbers import plain
from pricing.presentation import average
from pricing.price import to_config
from webapp import shown, wire

CSV_HEADER = ("customerRef", "currency", "periods", "before", "after", "change", "changePercent")
Names = Mapping[str, Customer]


def listed(found: Backtest) -> dict[str, Any]:
    """A back-test without its answer."""
    asked = question.read(found.question)
    return {
        "id": found.id,
        "name": found.name,
        "state": found.state,
        "currency": found.currency,
        "months": [f"{month:%Y-%m}" for month in asked.months],
        "metrics": [
            {
                "metric": each.metric,
                "aggregation": each.aggregation,
                "baseline": _baseline(each.baseline),
                "candidate": to_config(each.candidate),
            }
            for each in asked.metrics
        ],
        "progress": progress(found),
        "error": found.error,
        "createdBy": found.created_by,
        "createdAt": wire.instant(found.created_at),
        "updatedAt": wire.instant(found.updated_at),
        "endedAt": wire.instant(found.ended_at) if found.ended_at else None,
    }


def _baseline(baseline: Baseline) -> dict[str, Any]:
    """The price that was named, or the mapped ones by month and how many customers have others."""
    if baseline.given is not None:
        return to_config(baseline.given)
    by_month = {f"{month:%Y-%m}": to_config(each) for month, each in baseline.by_month.items()}
    return {"mapped": by_month, "customersWithOwnPrice": len(baseline.own)}


def progress(found: Backtest) -> dict[str, Any]:
    """How far it is; never 100 % before it is done, for customers may have come since."""
    total = found.customers_total
    if found.state == "done":
        percent: int | None = 100
    elif total is None or total >= backtest.COUNTED_TO:
        total = percent = None
    else:
        percent = min(99, found.customers_done * 100 // max(1, total))
    return {
        "customersDone": found.customers_done,
        "customersTotal": total,
        "percent": percent,
    }


def result(found: Backtest, most_affected: Sequence[BacktestResult], names: Names) -> Any:
    """The answer; None until there is one."""
    if found.state != "done":
        return None
    of, summary = money.currency(found.currency), backtest.summary(found)
    return {
        "sentence": sentence(summary, of),
        "customers": summary.customers,
        "periods": summary.periods,
        **_amounts(summary.before, summary.after, of),
        "winners": _side(summary.winners, of),
        "losers": _side(summary.losers, of),
        "unchanged": summary.unchanged,
        "distribution": [
            {"label": each.label, "fromPercent": each.low, "toPercent": each.high} | _side(side, of)
            for each, side in zip(BUCKETS, summary.buckets, strict=True)
        ],
        "mostAffected": [outcome(each, of, names) for each in most_affected],
    }


def sentence(summary: Summary, of: Currency) -> str:
    """Revenue before and after, in one sentence."""
    if not summary.customers:
        return "Nobody used any of this in these months, so no price makes a difference."
    before, after = shown.amount(summary.before, of), shown.amount(summary.after, of)
    if not summary.change:
        return f"Revenue stays at {before}, though customers may pay other shares of it."
    direction = "more" if summary.change > 0 else "less"
    share = percent_of(summary.change, summary.before)
    by = f" ({share.lstrip('-+')} %)" if share is not None else ""
    return (
        f"Revenue goes from {before} to {after}:"
        f" {shown.amount(abs(summary.change), of)}{by} {direction}."
    )


def outcome(row: BacktestResult, of: Currency, names: Names) -> dict[str, Any]:
    """One customer under both prices."""
    known = names.get(row.customer_ref)
    return {
        "customerRef": row.customer_ref,
        "name": known.name if known else None,
        "periods": row.periods,
        **_amounts(int(row.before), int(row.after), of),
    }


def csv_rows(rows: Iterable[BacktestResult], of: Currency) -> Iterator[tuple[object, ...]]:
    """By `CSV_HEADER`."""
    for row in rows:
        before, after = int(row.before), int(row.after)
        figures = [Decimal(money.show(each, of)) for each in (before, after, after - before)]
        share = percent_of(after - before, before)
        yield row.customer_ref, of.code, row.periods, *figures, share and Decimal(share)


def percent_of(change: int, before: int) -> str | None:
    """The change in percent to one decimal; None where there was nothing before."""
    if not before:
        return None
    return plain(money.quantized(average(Decimal(change * 100), Decimal(before)), 1))


def _side(side: Side, of: Currency) -> dict[str, Any]:
    return {
        "customers": side.customers,
        "change": money.show(side.amount, of),
        "changeMinor": side.amount,
    }


def _amounts(before: int, after: int, of: Currency) -> dict[str, Any]:
    change = after - before
    return {
        "before": money.show(before, of),
        "beforeMinor": before,
        "after": money.show(after, of),
        "afterMinor": after,
        "change": money.show(change, of),
        "changeMinor": change,
        "changePercent": percent_of(change, before),
    }
