"""What a billing period owes to Stripe, and what Stripe was told of it, from a few rows each.

Rougher than `amounts`, which looks at every segment before anything is sent, and cheap enough to
be asked for all customers at once: one counter stands for a customer's metric in a period.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.catalog import metrics
from metering.catalog.models import MetricMapping
from metering.catalog.period import Span
from metering.counters.aggregation import Aggregated, reading
from metering.stripe.spans import Source
from metering.tenancy import tenants

ZERO = Decimal(0)


@dataclass(frozen=True)
class Counted:
    """A customer's metric in one billing period, with the aggregates that are kept of it."""

    source: Source
    span: Span
    aggregates: Aggregated
    unique_count: int

    def read(self, aggregation: str) -> Decimal:
        return reading(aggregation, self.aggregates, self.unique_count)


@dataclass(frozen=True)
class Owed:
    """What Stripe should have of a period in one mode.

    total:    what was used in all of the period, as the mapping reads it: what the price is of.
    quantity: of it, what lies within the mappings' time; None where only the segments could tell.
    """

    total: Decimal
    quantity: Decimal | None


@dataclass(frozen=True)
class _Share:
    """How a metric is read in a mode, and the time for which it is billed."""

    aggregation: str
    since: datetime
    until: datetime | None

    def covers(self, span: Span) -> bool:
        is_open = self.until is None or self.until >= span.end_at
        return self.since <= span.start_at and is_open


class Shares:
    """The mappings of these metrics, loaded at once."""

    def __init__(self, session: Session, tenant_id: str, names: Iterable[str]) -> None:
        wanted = sorted(set(names))
        self._is_test_tenant = tenants.get(session, tenant_id).mode == "test" if wanted else True
        self._metrics = metrics.found(session, tenant_id, wanted)
        self._mappings: dict[str, list[MetricMapping]] = defaultdict(list)
        for mapping in session.scalars(
            select(MetricMapping).where(
                MetricMapping.tenant_id == tenant_id, MetricMapping.metric.in_(wanted)
            )
        ):
            self._mappings[mapping.metric].append(mapping)

    def own_aggregation(self, metric: str) -> str:
        """How the metric is read where no mapping says it."""
        return self._metrics[metric].aggregation

    def of(self, mode: str, source: Source, span: Span) -> _Share | None:
        """None where no mapping leads anywhere in the mode within the period."""
        if mode == "live" and self._is_test_tenant:
            return None
        within = [
            mapping
            for mapping in self._mappings[source.metric]
            if (mapping.is_active if mode == "live" else mapping.is_shadow)
            and mapping.customer_ref in (None, source.customer_ref)
            and mapping.effective_from < span.end_at
            and (mapping.effective_until is None or mapping.effective_until > span.start_at)
            and _leads_somewhere(mapping)
        ]
        if not within:
            return None
        known = self._metrics[source.metric]
        latest = max(within, key=lambda m: (m.customer_ref is not None, m.effective_from))
        ends = [mapping.effective_until for mapping in within]
        return _Share(
            latest.aggregation or known.aggregation,
            min(mapping.effective_from for mapping in within),
            None if None in ends else max(end for end in ends if end is not None),
        )


def _leads_somewhere(mapping: MetricMapping) -> bool:
    """Else it only prices."""
    of = (mapping.meter_event_name, mapping.meter_id, mapping.price_id, mapping.shadow_price_id)
    return any(each is not None for each in of)


def owed(
    session: Session, tenant_id: str, shares: Shares, asked: Sequence[tuple[str, Counted]]
) -> list[Owed | None]:
    """What each (mode, counted period) owes; None where it owes nothing in that mode."""
    answers: list[Owed | None] = []
    cut: dict[int, tuple[Counted, _Share]] = {}
    for number, (mode, counted) in enumerate(asked):
        share = shares.of(mode, counted.source, counted.span)
        if share is None:
            answers.append(None)
            continue
        total = counted.read(share.aggregation)
        if share.covers(counted.span):
            answers.append(Owed(total, total))
            continue
        answers.append(Owed(total, None))
        if share.aggregation in ("sum", "count"):
            cut[number] = counted, share
    for number, row in _within(session, tenant_id, cut).items():
        counted, share = cut[number]
        whole = answers[number]
        assert whole is not None
        quantity = row.sum_value if share.aggregation == "sum" else Decimal(row.event_count)
        answers[number] = Owed(whole.total, quantity)
    return answers


_WITHIN = """
SELECT w.number, coalesce(sum(s.sum_value + s.delta), 0) AS sum_value,
       coalesce(sum(s.event_count + s.delta), 0) AS event_count
FROM unnest(%(numbers)s::int[], %(refs)s::text[], %(metrics)s::text[], %(starts)s::timestamptz[],
            %(ends)s::timestamptz[]) AS w (number, customer_ref, metric, start_at, end_at)
LEFT JOIN used_segments s ON s.tenant_id = %(tenant_id)s AND s.customer_ref = w.customer_ref
    AND s.metric = w.metric AND s.segment_start >= w.start_at AND s.segment_start < w.end_at
GROUP BY w.number
"""


def _within(
    session: Session, tenant_id: str, cut: Mapping[int, tuple[Counted, _Share]]
) -> dict[int, Any]:
    """Periods in which a mapping begins or ends, from the segments of its time."""
    if not cut:
        return {}
    parameters = {
        "tenant_id": tenant_id,
        "numbers": list(cut),
        "refs": [counted.source.customer_ref for counted, _ in cut.values()],
        "metrics": [counted.source.metric for counted, _ in cut.values()],
        "starts": [max(share.since, counted.span.start_at) for counted, share in cut.values()],
        "ends": [
            min(share.until or counted.span.end_at, counted.span.end_at)
            for counted, share in cut.values()
        ],
    }
    rows = session.connection().exec_driver_sql(_WITHIN, parameters)
    return {row.number: row for row in rows}


_COUNTED = """
SELECT w.number, c.*
FROM unnest(%(numbers)s::int[], %(refs)s::text[], %(metrics)s::text[], %(sinces)s::timestamptz[])
    AS w (number, customer_ref, metric, since)
CROSS JOIN LATERAL (
    SELECT period_start, period_end, event_count, sum_value, max_value, last_value, unique_count,
           delta
    FROM used_counters
    WHERE tenant_id = %(tenant_id)s AND customer_ref = w.customer_ref AND metric = w.metric
      AND period_end > w.since
    OFFSET 0
) AS c
ORDER BY w.number, c.period_start
"""


def counted_since(
    session: Session, tenant_id: str, wanted: Sequence[tuple[Source, datetime]]
) -> dict[int, list[Counted]]:
    """By place in `wanted`: the periods that end after an instant."""
    found: dict[int, list[Counted]] = defaultdict(list)
    if not wanted:
        return found
    parameters = {
        "tenant_id": tenant_id,
        "numbers": list(range(len(wanted))),
        "refs": [source.customer_ref for source, _ in wanted],
        "metrics": [source.metric for source, _ in wanted],
        "sinces": [since for _, since in wanted],
    }
    for row in session.connection().exec_driver_sql(_COUNTED, parameters):
        span = Span(row.period_start, row.period_end)
        source, _ = wanted[row.number]
        found[row.number].append(Counted(source, span, row, row.unique_count))
    return found


@dataclass(frozen=True)
class Told:
    """What was pushed of a period and not refused; what callers recorded directly is not counted
    here and not in this.

    confirmed: by Stripe's own totals, or taken over from other code.  open: on its way.
    """

    pushed: Decimal = ZERO
    confirmed: Decimal = ZERO
    open: Decimal = ZERO


_TOLD = """
SELECT w.number, coalesce(sum(p.quantity), 0) AS pushed,
       coalesce(sum(p.quantity) FILTER (WHERE p.state IN ('confirmed', 'adopted')), 0) AS confirmed,
       coalesce(sum(p.quantity) FILTER (WHERE p.state = 'claimed'), 0) AS open
FROM unnest(%(numbers)s::int[], %(ids)s::text[], %(starts)s::timestamptz[],
            %(ends)s::timestamptz[]) AS w (number, stream_id, start_at, end_at)
CROSS JOIN LATERAL (
    SELECT quantity, state FROM pushes
    WHERE tenant_id = %(tenant_id)s AND stream_id = w.stream_id
      AND segment_start >= w.start_at AND segment_start < w.end_at AND state <> 'rejected'
      AND basis <> 'direct'
    OFFSET 0
) AS p
GROUP BY w.number
"""


def told(
    session: Session, tenant_id: str, wanted: Sequence[tuple[Sequence[str], Span]]
) -> list[Told]:
    """What each (streams, period) was told."""
    answers = [Told()] * len(wanted)
    each = [(n, one, span) for n, (streams, span) in enumerate(wanted) for one in streams]
    if not each:
        return answers
    parameters = {
        "tenant_id": tenant_id,
        "numbers": [number for number, _, _ in each],
        "ids": [stream_id for _, stream_id, _ in each],
        "starts": [span.start_at for _, _, span in each],
        "ends": [span.end_at for _, _, span in each],
    }
    for row in session.connection().exec_driver_sql(_TOLD, parameters):
        answers[row.number] = Told(row.pushed, row.confirmed, row.open)
    return answers


@dataclass(frozen=True)
class Fed:
    """A stream that a customer's metric feeds. is_shared: others feed it too."""

    stream_id: str
    mode: str
    is_shared: bool


_FED = """
SELECT f.customer_ref, f.metric, t.stream_id, t.mode,
       EXISTS (SELECT 1 FROM stream_sources o
               WHERE o.tenant_id = %(tenant_id)s AND o.stream_id = t.stream_id
                 AND (o.customer_ref, o.metric) <> (f.customer_ref, f.metric)) AS is_shared
FROM unnest(%(refs)s::text[], %(metrics)s::text[]) AS w (customer_ref, metric)
JOIN stream_sources f ON f.tenant_id = %(tenant_id)s AND f.customer_ref = w.customer_ref
    AND f.metric = w.metric
JOIN push_streams t ON t.tenant_id = %(tenant_id)s AND t.stream_id = f.stream_id
ORDER BY t.stream_id
"""


def fed_by(session: Session, tenant_id: str, sources: Iterable[Source]) -> dict[Source, list[Fed]]:
    """The streams that these customers' metrics feed, or once did."""
    found: dict[Source, list[Fed]] = defaultdict(list)
    wanted = sorted(set(sources))
    if not wanted:
        return found
    parameters = {
        "tenant_id": tenant_id,
        "refs": [source.customer_ref for source in wanted],
        "metrics": [source.metric for source in wanted],
    }
    for row in session.connection().exec_driver_sql(_FED, parameters):
        source = Source(row.customer_ref, row.metric)
        found[source].append(Fed(row.stream_id, row.mode, row.is_shared))
    return found
