"""What a back-test asks: which metrics in which months, at which price against which other.

A question is frozen when it is asked: prices and aggregations may change while it is answered, and
an answer of which half is by one rule and half by another would be none.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from metering.catalog import metrics
from metering.catalog.period import calendar_month
from metering.errors import ConflictError, InvalidInputError
from pricing import backtest, price
from pricing.backtest import Pair
from pricing.errors import PricingError
from pricing.price import Price

MAX_METRICS = 20
MAX_MONTHS = 36
_MONTH = re.compile(r"2[0-9]{3}-(0[1-9]|1[0-2])")


@dataclass(frozen=True)
class Wanted:
    """One metric as it was asked for: prices in either form that `pricing.price.read` takes."""

    metric: str
    baseline: Mapping[str, Any]
    candidate: Mapping[str, Any]


@dataclass(frozen=True)
class Repriced:
    """One metric with its reading and both prices."""

    metric: str
    aggregation: str
    baseline: Price
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

    def pairs(self) -> dict[tuple[str, datetime], Pair]:
        """Both amounts by metric and month."""
        return {
            (each.metric, month): backtest.pair(each.baseline, each.candidate)
            for each in self.metrics
            for month in self.months
        }

    def text(self) -> str:
        """As JSON; `read` is its inverse."""
        return json.dumps(
            {
                "months": [f"{month:%Y-%m}" for month in self.months],
                "metrics": [
                    {
                        "metric": each.metric,
                        "aggregation": each.aggregation,
                        "baseline": price.to_config(each.baseline),
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
                price.from_config(each["baseline"]),
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
    priced = [_prices(each, f"metrics/{i}") for i, each in enumerate(wanted)]
    for i, (_, candidate) in enumerate(priced):
        try:
            backtest.pair(priced[0][1], candidate)
        except PricingError as error:
            raise error.within(f"metrics/{i}/candidate") from None
    return Question(
        months=_starts(months),
        metrics=tuple(
            Repriced(each.metric, _aggregation(session, tenant_id, each.metric), *prices)
            for each, prices in zip(wanted, priced, strict=True)
        ),
    )


def month_start(month: str) -> datetime:
    """The first instant of `2026-05`; ValueError if it is no month."""
    if not _MONTH.fullmatch(month) or month >= "2100":
        raise ValueError("must be a month such as 2026-05")
    return datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC)


def months_between(since: datetime, until: datetime) -> list[str]:
    """The months that begin in `[since, until)`."""
    found, month = [], calendar_month(since)
    while month.start_at < until:
        if month.start_at >= since:
            found.append(f"{month.start_at:%Y-%m}")
        month = calendar_month(month.end_at)
    return found


def _prices(wanted: Wanted, path: str) -> tuple[Price, Price]:
    read = []
    for name in ("baseline", "candidate"):
        try:
            read.append(price.read(getattr(wanted, name)))
        except PricingError as error:
            raise error.within(f"{path}/{name}") from None
    try:
        backtest.pair(*read)
    except PricingError as error:
        raise error.within(f"{path}/candidate") from None
    return read[0], read[1]


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


def _aggregation(session: Session, tenant_id: str, metric: str) -> str:
    known = metrics.get(session, tenant_id, metric)
    if known.aggregation == "unique" and known.unique_filled_to is not None:
        raise ConflictError(
            f"the unique counts of {metric!r} are still being completed from the ledger;"
            " ask again once they are"
        )
    return known.aggregation
