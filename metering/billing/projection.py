"""Counters × prices: what a period costs so far and is heading for.

Prices come with the mappings; until a metric has one it is listed without an amount and says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal, localcontext

from sqlalchemy.orm import Session

from metering.catalog.period import Span, calendar_month
from metering.counters import usage
from metering.counters.usage import MetricUsage, Usage
from pricing import projection as pace

_ACCUMULATING = ("sum", "count")
# Counters are unbounded numerics: arithmetic on them must not round at Decimal's usual 28 digits.
_EXACT = Context(prec=200)


@dataclass(frozen=True)
class Line:
    """One metric of the projection. No price is known yet, so there is no amount either."""

    usage: MetricUsage
    projected_quantity: Decimal


@dataclass(frozen=True)
class Projection:
    """A customer's billing period: what was used, and where that leads.

    latest_period: where `lines` is empty, the last period with usage, if there is one.
    """

    span: Span
    lines: Sequence[Line]
    usage: Usage
    latest_period: Span | None


def project(
    session: Session, tenant_id: str, customer_ref: str, span: Span | None, *, now: datetime
) -> Projection:
    """Project one billing period, by default the one that holds `now`."""
    period = span or calendar_month(now)
    used = usage.of_customer(session, tenant_id, customer_ref, period, now=now)
    lines = [Line(metric, _projected(metric, now)) for metric in used.metrics]
    latest = None
    if not lines:
        latest = usage.latest_period(session, tenant_id, customer_ref, used.backlog)
    return Projection(span=period, lines=lines, usage=used, latest_period=latest)


def _projected(metric: MetricUsage, now: datetime) -> Decimal:
    if metric.aggregation not in _ACCUMULATING:
        return metric.value
    with localcontext(_EXACT):
        return pace.extrapolate(
            metric.value,
            Decimal(str(metric.span.elapsed_seconds(now))),
            Decimal(str(metric.span.seconds)),
        )
