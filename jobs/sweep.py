"""Find work that no hint has found: after a crash, or when Redis was away or emptied."""

import logging

from jobs import counters, unique
from jobs.runtime import hints, step
from metering import installation

log = logging.getLogger(__name__)


def sweep() -> None:
    """Wake every shard with unfolded events, whatever its flag says.

    While Redis is away the sweep folds by itself: usage is then late by seconds, not by an
    outage.
    """
    with step() as (session, _):
        busy = installation.tenants_with_work(session)
    for shard in sorted({installation.shard_of(tenant_id) for tenant_id in busy}):
        if not hints().enqueue_fold(shard):
            taken, _ = counters.drain(shard)
            log.warning("folded without redis", extra={"shard": shard, "events": taken})


def resume_filling() -> None:
    """Take up unique counts whose completion was interrupted."""
    with step() as (session, _):
        unfinished = installation.metrics_to_fill(session)
    for tenant_id, metric in unfinished:
        if not hints().fill_unique(tenant_id, metric):
            unique.fill(tenant_id, metric)


def prune() -> None:
    """Delete what has outlived its use."""
    with step() as (session, now):
        installation.prune(session, now=now)
