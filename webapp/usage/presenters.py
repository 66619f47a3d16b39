"""Usage in the contract's form."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from metering.catalog.period import Span
from metering.counters import calendar
from metering.counters.calendar import Listed
from metering.counters.history import History, Question
from metering.counters.usage import MetricUsage, Usage
from webapp import wire


def span(value: Span) -> dict[str, str]:
    """`{start, end}`."""
    return {"start": wire.instant(value.start_at), "end": wire.instant(value.end_at)}


def current(customer_ref: str, usage: Usage, now: datetime) -> dict[str, Any]:
    """The answer of `GET /v1/usage/current`."""
    return {
        "customerRef": customer_ref,
        "period": span(usage.span),
        "asOf": wire.instant(usage.as_of),
        "metrics": [_metric(metric, usage, now) for metric in usage.metrics],
        "unfolded": usage.backlog.events,
        "unfoldedIsLowerBound": usage.backlog.is_lower_bound,
        "alerts": [],
    }


def _metric(metric: MetricUsage, usage: Usage, now: datetime) -> dict[str, Any]:
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
        "state": calendar.state_of(metric.span, metric.closed_at, now=now),
        "closesAt": _instant(metric.closes_at),
        "closedAt": _instant(metric.closed_at),
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


def periods(customer_ref: str, listed: Sequence[Listed], next_cursor: str | None) -> dict[str, Any]:
    """The answer of `GET /v1/usage/periods`."""
    return {
        "customerRef": customer_ref,
        "periods": [
            {
                "metric": each.metric,
                **span(each.span),
                "state": each.state,
                "closesAt": _instant(each.closes_at),
                "closedAt": _instant(each.closed_at),
                "effectiveLatenessSeconds": each.effective_lateness_seconds,
                "invoiceId": each.invoice_id,
                "invoiceFinalAt": _instant(each.final_at),
                "setAside": each.set_aside,
                "pendingAdjustments": each.pending,
            }
            for each in listed
        ],
        "nextCursor": next_cursor,
    }


def _instant(value: datetime | None) -> str | None:
    return None if value is None else wire.instant(value)


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
