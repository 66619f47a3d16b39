"""What a back-test asks: which metrics in which months, at which price against which other.

A question is frozen when it is asked: prices and aggregations may change while it is answered, and
an answer of which half is by one rule and half by another would be none.
"""

import json
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from metering.billing.baseline import MAPPED, Baseline, mapped
from metering.catalog import metrics
from metering.catalog.period import Span, calendar_month
from metering.errors import ConflictError, InvalidInputError
from pricing import backtest, price
from pricing.backtest import Pair
from pricing.errors import PricingError
from pricing.graduated import Graduated
from pricing.price import Price

MAX_METRICS = 20
MAX_MONTHS = 36
_MONTH = re.compile(r"2[0-9]{3}-(0[1-9]|1[0-2])")


@dataclass(frozen=True)
class Wanted:
    """One metric as it was asked for: prices in either form that `pricing.price.read` takes.

    baseline: or `mapped`, for the prices that were in force.
    """

    metric: str
    baseline: Mapping[str, Any] | str
    candidate: Mapping[str, Any]


@dataclass(frozen=True)
class Repriced:
    """One metric with its reading and both prices."""

    metric: str
    aggregation: str
    baseline: Baseline
    candidate: Price


@dataclass(frozen=True)
class Question:
    """months: their first instants, ascending; a billing period belongs to the one it begins in."""

    months: tuple[datetime, ...]
    metrics: tuple[Repriced, ...]

    @property
    def currency(self) -> str:
        return self.metrics[0].candidate.currency.code

    @property
    def readings(self) -> dict[str, str]:
        """Each metric's aggregation."""
        return {each.metric: each.aggregation for each in self.metrics}

    @property
    def weight(self) -> int:
        """How many times longer than usual a quantity takes: bounded graduated prices of many tiers
        are summed up tier by tier."""
        prices = [p for each in self.metrics for p in (*each.baseline.every(), each.candidate)]
        tiers = [
            len(each.model.tiers)
            for each in prices
            if each.is_bounded and isinstance(each.model, Graduated)
        ]
        return 1 + max(tiers, default=0) // 4

    def own_prices(self) -> set[tuple[str, str, datetime]]:
        """(metric, customer, month) of those who have another price than everyone."""
        return {
            (each.metric, ref, month)
            for each in self.metrics
            for ref, by_month in each.baseline.own.items()
            for month in by_month
        }

    def pairs(self) -> dict[tuple[str, Hashable], Pair]:
        """Both amounts by metric and month, and by (customer, month) for `own_prices`."""
        found: dict[tuple[str, Hashable], Pair] = {}
        for each in self.metrics:
            for month in self.months:
                pair = backtest.pair(each.baseline.at(month), each.candidate)
                found[each.metric, month] = pair
            for ref, by_month in each.baseline.own.items():
                for month, own in by_month.items():
                    found[each.metric, (ref, month)] = backtest.pair(own, each.candidate)
        return found

    def text(self) -> str:
        """As JSON; `read` is its inverse."""
        return json.dumps(
            {
                "months": [f"{month:%Y-%m}" for month in self.months],
                "metrics": [
                    {
                        "metric": each.metric,
                        "aggregation": each.aggregation,
                        "baseline": each.baseline.to_json(),
                        "candidate": price.to_config(each.candidate),
                    }
                    for each in self.metrics
                ],
            }
        )


def read(text: str) -> Question:
    """A frozen question."""
    kept = json.loads(text)
    return Question(
        months=tuple(map(month_start, kept["months"])),
        metrics=tuple(
            Repriced(
                each["metric"],
                each["aggregation"],
                Baseline.from_json(each["baseline"]),
                price.from_config(each["candidate"]),
            )
            for each in kept["metrics"]
        ),
    )


def freeze(
    session: Session, tenant_id: str, wanted: Sequence[Wanted], months: Sequence[str]
) -> Question:
    """Check what is asked for and tie it to the tenant's metrics as they are now.

    months: as `2026-05`.
    Raises: PricingError and InvalidInputError naming the part, NotFoundError for a metric that was
            never seen, ConflictError for unique counts that are still being completed.
    """
    if not 1 <= len(wanted) <= MAX_METRICS:
        raise InvalidInputError(f"name 1 to {MAX_METRICS} metrics", pointer="/metrics")
    if len({each.metric for each in wanted}) < len(wanted):
        raise InvalidInputError("a metric is named twice", pointer="/metrics")
    starts = _starts(months)
    asked = [
        _repriced(session, tenant_id, each, starts, f"metrics/{i}") for i, each in enumerate(wanted)
    ]
    for i, each in enumerate(asked):
        for one in each.baseline.every():
            _check_currency(one, each.candidate, f"metrics/{i}/candidate")
        _check_currency(asked[0].candidate, each.candidate, f"metrics/{i}/candidate")
    return Question(starts, tuple(asked))


def month_start(month: str) -> datetime:
    """The first instant of `2026-05`; ValueError if it is no month."""
    if not _MONTH.fullmatch(month) or month >= "2100":
        raise ValueError("must be a month such as 2026-05")
    return datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC)


def month_before(month: Span) -> Span:
    """The calendar month that ends where this one begins."""
    return calendar_month(month.start_at - timedelta(microseconds=1))


def months_between(since: datetime, until: datetime) -> list[str]:
    """The months that begin in `[since, until)`."""
    found, month = [], calendar_month(since)
    while month.start_at < until:
        if month.start_at >= since:
            found.append(f"{month.start_at:%Y-%m}")
        month = calendar_month(month.end_at)
    return found


def _repriced(
    session: Session, tenant_id: str, wanted: Wanted, months: Sequence[datetime], path: str
) -> Repriced:
    candidate = _price(wanted.candidate, f"{path}/candidate")
    metric = metrics.get(session, tenant_id, wanted.metric)
    if wanted.baseline == MAPPED:
        pointer = f"/{path}/baseline"
        current, aggregation = mapped(session, tenant_id, metric, months, pointer=pointer)
    else:
        current = Baseline(_price(wanted.baseline, f"{path}/baseline"))
        aggregation = metric.aggregation
    if aggregation == "unique" and (not metric.unique_enabled or metric.unique_filled_to):
        raise ConflictError(
            f"the unique counts of {wanted.metric!r} are not complete; they are made from the"
            " ledger once they are switched on"
        )
    return Repriced(wanted.metric, aggregation, current, candidate)


def _price(given: Any, path: str) -> Price:
    try:
        return price.read(given)
    except PricingError as error:
        raise error.within(path) from None


def _check_currency(one: Price, other: Price, path: str) -> None:
    try:
        backtest.pair(one, other)
    except PricingError as error:
        raise error.within(path) from None


def _starts(months: Sequence[str]) -> tuple[datetime, ...]:
    starts = []
    for i, month in enumerate(months):
        try:
            starts.append(month_start(month))
        except ValueError as error:
            raise InvalidInputError(str(error), pointer=f"/months/{i}") from None
    if not 1 <= len(set(starts)) <= MAX_MONTHS:
        raise InvalidInputError(f"choose 1 to {MAX_MONTHS} months", pointer="/months")
    return tuple(sorted(set(starts)))
