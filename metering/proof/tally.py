"""What the lines of a statement add up to, reckoned from nothing but the lines.

A second, plain reckoning beside the counters: who checks a statement trusts neither them nor us.
"""

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from metering.proof.form import Record
from pricing.numbers import EXACT

ZERO = Decimal(0)


@dataclass
class _Metric:
    events: int = 0
    sum: Decimal = ZERO
    max: Decimal | None = None
    last: tuple[datetime, bytes, Decimal] | None = None
    delta: Decimal = ZERO
    resources: set[bytes] = field(default_factory=set)


class Tally:
    """The lines seen so far, by metric."""

    def __init__(self) -> None:
        self._metrics: dict[str, _Metric] = defaultdict(_Metric)

    @property
    def metrics(self) -> set[str]:
        """Those of which any line counts."""
        return {name for name, of in self._metrics.items() if of.events or of.delta}

    def counts(self, metric: str) -> bool:
        """Whether an event of the metric counts."""
        return metric in self._metrics and self._metrics[metric].events > 0

    def take(self, record: Record) -> None:
        """Add an event's or an adjustment's line. Raises: ValueError for one that says no number
        where it must."""
        kind, name = record.get("type"), str(record.get("metric"))
        if kind == "adjustment" and record.get("delta") is not None:
            self._metrics[name].delta = EXACT.add(
                self._metrics[name].delta, number(record["delta"])
            )
        if kind != "event" or str(record.get("counts")).lower() != "true":
            return
        of, quantity = self._metrics[name], number(record.get("quantity"))
        of.events += 1
        of.sum = EXACT.add(of.sum, quantity)
        of.max = quantity if of.max is None else max(of.max, quantity)
        at = datetime.fromisoformat(str(record.get("ts")))
        mark = (at, str(record.get("id")).encode(), quantity)
        if of.last is None or mark[:2] > of.last[:2]:
            of.last = mark
        if record.get("resourceId") is not None:
            resource = str(record["resourceId"]).encode()
            of.resources.add(hashlib.sha256(resource).digest()[:16])

    def total(self, metric: str, aggregation: str, carried: Decimal = ZERO) -> Decimal:
        """What the metric comes to. carried: the last value where no line counts.

        Raises: ValueError for an aggregation that there is not.
        """
        of = self._metrics[metric]
        match aggregation:
            case "sum":
                value = of.sum
            case "count":
                value = Decimal(of.events)
            case "max":
                value = of.max or ZERO
            case "last":
                value = of.last[2] if of.last is not None else carried
            case "unique":
                value = Decimal(len(of.resources))
            case _:
                raise ValueError(f"there is no aggregation {aggregation!r}")
        return EXACT.add(value, of.delta)


def number(value: Any) -> Decimal:
    """A decimal's text. Raises: ValueError if it is none."""
    try:
        read = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"{str(value)[:40]!r} is no number") from None
    if not read.is_finite():
        raise ValueError(f"{str(value)[:40]!r} is no number")
    return read
