"""What is paid today: a price that was named, or the mapped one that was in force each month."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from metering.billing import prices
from metering.billing.prices import InForce
from metering.catalog.models import Metric
from metering.catalog.period import calendar_month
from metering.errors import InvalidInputError
from pricing.price import Price, from_config, to_config

MAPPED = "mapped"
# Customers with a price of their own, each of which is written into the question.
MAX_OWN = 1_000

ByMonth = Mapping[datetime, Price]


@dataclass(frozen=True)
class Baseline:
    """given: one price throughout, or None where prices were looked up by month.

    own: for customers who have another price than everyone.
    """

    given: Price | None = None
    by_month: ByMonth = field(default_factory=dict)
    own: Mapping[str, ByMonth] = field(default_factory=dict)

    def every(self) -> Iterator[Price]:
        if self.given is not None:
            yield self.given
        yield from self.by_month.values()
        for by_month in self.own.values():
            yield from by_month.values()

    def at(self, month: datetime) -> Price:
        """What everyone pays who has no price of their own."""
        return self.given if self.given is not None else self.by_month[month]

    def to_json(self) -> dict[str, Any]:
        if self.given is not None:
            return {"price": to_config(self.given)}
        own = {ref: _written(by_month) for ref, by_month in self.own.items()}
        return {"mapped": _written(self.by_month), "own": own}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> "Baseline":
        if "price" in kept:
            return cls(from_config(kept["price"]))
        own = {ref: _read(by_month) for ref, by_month in kept["own"].items()}
        return cls(None, _read(kept["mapped"]), own)


def mapped(
    session: Session, tenant_id: str, metric: Metric, months: Sequence[datetime], *, pointer: str
) -> tuple[Baseline, str]:
    """The mapped prices as they are now, and the aggregation that all of them are read by.

    Raises: InvalidInputError naming a month without a price, or readings that differ.
    """
    spans = {month: calendar_month(month) for month in months}
    found = prices.for_everyone(session, tenant_id, metric.metric, list(spans.values()))
    by_month: dict[datetime, Price] = {}
    own: dict[str, dict[datetime, Price]] = {}
    readings: set[str] = set()

    def price_of(in_force: InForce, month: datetime, whose: str) -> Price:
        if in_force.price is None:
            raise InvalidInputError(
                f"{metric.metric} has no price{whose} in {month:%Y-%m}: {in_force.why_not};"
                " name the price that it is to be compared with",
                pointer=pointer,
            )
        readings.add(in_force.aggregation or metric.aggregation)
        return in_force.price

    for month, span in spans.items():
        by_month[month] = price_of(found[span].price, month, "")
        for ref, in_force in found[span].own.items():
            own.setdefault(ref, {})[month] = price_of(in_force, month, f" for {ref}")
    if len(own) > MAX_OWN:
        raise InvalidInputError(
            f"more than {MAX_OWN:,} customers have a price of their own", pointer=pointer
        )
    if len(readings) > 1:
        raise InvalidInputError(
            f"the mapped prices read {metric.metric} in different ways ({', '.join(readings)});"
            " name the price that it is to be compared with",
            pointer=pointer,
        )
    return Baseline(None, by_month, own), readings.pop()


def _written(by_month: ByMonth) -> dict[str, Any]:
    return {f"{month:%Y-%m}": to_config(price) for month, price in by_month.items()}


def _read(kept: Mapping[str, Any]) -> dict[datetime, Price]:
    return {
        datetime.fromisoformat(f"{month}-01T00:00:00+00:00"): from_config(config)
        for month, config in kept.items()
    }
