"""`/metrics`: what this installation does, in Prometheus' text form.

Two sources, each right under any number of processes. What the web processes count goes through
prometheus_client's files, shared by the processes of one machine. What the workers do is read
from rows that the working transaction itself wrote, so it survives their death and needs no
network between them and us. Never a tenant or customer as a label.
"""

import logging
from collections.abc import Iterator
from datetime import datetime

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
    multiprocess,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import REGISTRY as OWN
from prometheus_client.registry import Collector

from metering.installation import StripeTotals, Totals
from metering.stripe import tally
from metering.stripe.modes import MODES

log = logging.getLogger(__name__)

REQUESTS = Counter("http_requests", "HTTP requests answered.", ["method", "route", "status"])
DURATION = Histogram(
    "http_request_duration_seconds",
    "From the first byte read to the answer made.",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
INGESTED = Counter("events_ingested", "Events accepted into the ledger.")
DUPLICATES = Counter("events_duplicate", "Events that the ledger held already.")
REJECTED = Counter("events_rejected", "Events refused, each with its reason in the answer.")
WEBHOOKS = Counter(
    "stripe_webhooks", "Webhooks of Stripe's, by what became of them at the door.", ["outcome"]
)
REDIS_ERRORS = Counter("redis_errors", "Times that Redis did not answer the web.")


def exposition(
    totals: Totals, stripe: StripeTotals, lags: dict[str, float], *, now: datetime, shared: bool
) -> bytes:
    """Everything as text.

    shared: several processes write their counts to files; else this process is all there is.
    """
    registry = CollectorRegistry()
    registry.register(_FromRows(totals, lags, now))
    registry.register(_OfStripe(stripe, now))
    if shared:
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
    return generate_latest(OWN) + generate_latest(registry)


class _FromRows(Collector):
    def __init__(self, totals: Totals, lags: dict[str, float], now: datetime) -> None:
        self.totals = totals
        self.lags = lags
        self.now = now

    def collect(self) -> Iterator[Metric]:
        totals = self.totals
        for name, text, value in (
            ("events_folded", "Events put into counters.", totals.folded),
            ("events_set_aside", "Events that came too late for their period.", totals.set_aside),
            ("dead_letters", "Events that could not be folded.", totals.dead_letters),
            (
                "reaggregations",
                "Folded events behind a counter's watermark.",
                totals.reaggregations,
            ),
            ("periods_closed", "Billing periods that were closed.", totals.periods_closed),
            ("folds", "Fold transactions.", totals.folds),
            ("fold_seconds", "Time spent in fold transactions.", float(totals.fold_seconds)),
        ):
            yield CounterMetricFamily(name, text, value=value)
        waiting = _age(totals.oldest_unfolded_at, self.now)
        for name, text, value in (
            ("unfolded_events", "Events received and not yet counted.", float(totals.unfolded)),
            ("unfolded_oldest_seconds", "Age of the oldest of them.", waiting),
            (
                "pending_adjustments",
                "Adjustments that nobody has decided on.",
                float(totals.pending_adjustments),
            ),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        lag = GaugeMetricFamily(
            "queue_lag_seconds", "How long a queue's next job has waited.", labels=["queue"]
        )
        for queue, seconds in self.lags.items():
            lag.add_metric([queue], seconds)
        yield lag


class _OfStripe(Collector):
    """What goes to Stripe. Every series is there from the beginning, so that its first increase
    is seen as one."""

    def __init__(self, totals: StripeTotals, now: datetime) -> None:
        self.totals = totals
        self.now = now

    def collect(self) -> Iterator[Metric]:
        totals, posts = self.totals, dict.fromkeys(tally.ANSWERS, 0)
        pushes = CounterMetricFamily(
            "stripe_pushes",
            "Pushes to Stripe by what it said, and by what its own totals said later.",
            labels=["mode", "outcome"],
        )
        known = [(mode, outcome) for mode in MODES for outcome in tally.OUTCOMES]
        for mode, outcome in sorted({*known, *totals.pushes}):
            count = totals.pushes.get((mode, outcome), 0)
            pushes.add_metric([mode, outcome], count)
            if mode == "test" and outcome in posts:
                posts[outcome] = count
        yield pushes
        failures = sum(count for outcome, count in posts.items() if outcome not in tally.TAKEN)
        for name, text, value in (
            ("shadow_usage_posts", "Calls that told Stripe's test mode of usage.", posts.values()),
            ("shadow_usage_post_failures", "Those that Stripe did not take.", [failures]),
        ):
            yield CounterMetricFamily(name, text, value=sum(value))
        yield from self._backlog()

    def _backlog(self) -> Iterator[Metric]:
        totals = self.totals
        ages = {mode: _age(totals.oldest_unsent_at.get(mode), self.now) for mode in MODES}
        for name, text, values in (
            ("unsent_segments", "Segments of which Stripe may not have heard all.", totals.unsent),
            ("unsent_oldest_seconds", "Age of the oldest of them.", ages),
            ("stripe_connections_halted", "Accounts to which nothing is sent.", totals.halted),
            ("stripe_held", "Customers' metrics that have nowhere to go in Stripe.", totals.held),
        ):
            gauge = GaugeMetricFamily(name, text, labels=["mode"])
            for mode in MODES:
                gauge.add_metric([mode], values.get(mode, 0))
            yield gauge


def _age(since: datetime | None, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds()) if since else 0.0
