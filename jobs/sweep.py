"""Find work that no hint has found: after a crash, or when Redis was away or emptied."""

import logging
from datetime import datetime, timedelta

from jobs import counters, unique
from jobs.runtime import hints, step
from metering import installation

# Beyond what a backlog under load costs a worker that is there.
PATIENCE = timedelta(seconds=15)
# For a megabyte of an upload, on a slow line.
UPLOAD_PATIENCE = timedelta(minutes=5)

log = logging.getLogger(__name__)


def sweep() -> None:
    """Wake every shard with unfolded events, whatever its flag says.

    What has waited longer than any healthy worker would let it is folded here: usage is then
    late by seconds, even while Redis is away or no worker serves.
    """
    with step() as (session, now):
        waiting = installation.waiting_since(session)
    shards: dict[int, datetime] = {}
    for tenant_id, since in waiting.items():
        shard = installation.shard_of(tenant_id)
        shards[shard] = min(since, shards.get(shard, since))
    for shard, since in sorted(shards.items()):
        is_hinted = hints().enqueue_fold(shard)
        if not is_hinted or now - since > PATIENCE:
            taken, _ = counters.drain(shard)
            log.warning("the sweep folded", extra={"shard": shard, "events": taken})


def resume_filling() -> None:
    """Take up unique counts whose completion was interrupted."""
    with step() as (session, _):
        unfinished = installation.metrics_to_fill(session)
    for tenant_id, metric in unfinished:
        if not hints().fill_unique(tenant_id, metric):
            unique.fill(tenant_id, metric)


def resume_backtests() -> None:
    """Enqueue back-tests that no job has touched for a while.

    They are never run here: while Redis is away this process folds, and a what-if can wait.
    """
    with step() as (session, now):
        waiting = installation.backtests_waiting(session, untouched_since=now - PATIENCE)
    for tenant_id, backtest_id in waiting:
        hints().answer_backtest(tenant_id, backtest_id)


def resume_backfills() -> None:
    """Enqueue files of past usage that no job has touched for a while, like back-tests; and note
    uploads that stand still."""
    with step() as (session, now):
        installation.note_broken_uploads(session, untouched_since=now - UPLOAD_PATIENCE, now=now)
        waiting = installation.backfills_waiting(session, untouched_since=now - PATIENCE)
    for tenant_id, backfill_id in waiting:
        hints().read_backfill(tenant_id, backfill_id)


def prune() -> None:
    """Delete what has outlived its use."""
    with step() as (session, now):
        installation.prune(session, now=now)
