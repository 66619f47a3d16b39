"""Usage in the contract's form."""

from datetime import datetime
from typing import Any

from metering.catalog.period import Span
from metering.counters.history import History, Question
from metering.counters.usage import MetricUsage, Usage
from webapp import wire


def span(value: Span) -> dict[str, str]:
    """`{start, end}`."""
    return {"start": wire.instant(value.start_at), "end": wire.instant(value.end_at)}


def current(customer_ref: str, usage: Usage) -> dict[str, Any]:
    """The answer of `GET /v1/usage/current`."""
    return {
        "customerRef": customer_ref,
        "period": span(usage.span),
        "asOf": wire.instant(usage.as_of),
        "metrics": [_metric(metric, usage) for metric in usage.metrics],
        "unfolded": usage.backlog.events,
        "unfoldedIsLowerBound": usage.backlog.is_lower_bound,
        "alerts": [],
    }


def _metric(metric: MetricUsage, usage: Usage) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": metric.metric,
        "displayName": metric.display_name,
        "current": wire.decimal(metric.value),
        "aggregation": metric.aggregation,
        "unit": metric.unit,
        "watermark": wire.instant(metric.watermark) if metric.watermark else None,
        "asOf": wire.instant(usage.as_of),
        "adjustments": wire.decimal(metric.delta),
        "setAside": metric.set_aside,
        "unfolded": metric.unfolded,
        "latenessSeconds": metric.lateness_seconds,
        "effectiveLatenessSeconds": _effective_lateness(metric),
    }
    if metric.span != usage.span:
        shown["period"] = span(metric.span)
    if metric.aggregation == "unique":
        shown["uniqueComplete"] = metric.unique_complete
    return shown


def _effective_lateness(metric: MetricUsage) -> int | None:
    """For how long after the period's end usage is still counted in it.

    A period that no subscription is bound to does not close: nothing comes too late.
    """
    if metric.closes_at is None:
        return None
    return int((metric.closes_at - metric.span.end_at).total_seconds())


def history(question: Question, answered: History, as_of: datetime) -> dict[str, Any]:
    """The answer of `GET /v1/usage/history`."""
    return {
        "tenantId": question.tenant_id,
        "metric": question.metric,
        "aggregation": question.aggregation,
        "timeRange": span(answered.span),
        "interval": question.interval,
        "timezone": str(question.zone),
        "series": [
            {
                "ts": wire.instant(point.at),
                "value": wire.decimal(point.value) if point.value is not None else None,
            }
            for point in answered.points
        ],
        "totals": {"value": wire.decimal(answered.total) if answered.total is not None else None},
        "asOf": wire.instant(as_of),
    }
