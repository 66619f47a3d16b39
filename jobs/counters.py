"""Fold what has come in: one job drains many events of many tenants."""

import time

from jobs.runtime import hints, step
from metering import installation
from metering.counters import fold

# Well below the 20 s that a counters job may run; what is left is taken up by the next one.
RUN_SECONDS = 10.0
# Under steady traffic a shard is folded this often and no oftener: a fold of a few hundred events
# costs Postgres more than twice as much for each as one of thousands.
PAUSE_SECONDS = 0.05

# When this process last folded a shard, by the monotonic clock.
_folded_at: dict[int, float] = {}


def fold_shard(shard: int) -> int:
    """Fold the shard's unfolded events, a turn per tenant, until none are left or time is up.

    Returns: events taken from the backlog.
    """
    if time.monotonic() - _folded_at.get(shard, -PAUSE_SECONDS) < PAUSE_SECONDS:
        time.sleep(PAUSE_SECONDS)
    # The flag goes first: what commits after this read raises it again, and with it a new job.
    hints().lower_flag(shard)
    taken, left = drain(shard)
    _folded_at[shard] = time.monotonic()
    if left:
        hints().wake_shard(shard)
    return taken


def drain(shard: int) -> tuple[int, bool]:
    """(events taken, whether work is left). Needs no Redis."""
    started, taken = time.monotonic(), 0
    while True:
        with step() as (session, _):
            tenants = installation.tenants_with_work(session, shard)
        progress = 0
        for tenant_id in tenants:
            if time.monotonic() - started > RUN_SECONDS:
                return taken + progress, True
            with step() as (session, now):
                folded = fold.fold(session, tenant_id, now=now)
            progress += folded.taken if folded else 0
        taken += progress
        if not progress:
            # Nothing, or only tenants whose lock another writer holds: the sweep comes again.
            return taken, False
