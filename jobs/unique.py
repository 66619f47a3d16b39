"""Complete unique counts that were switched on late; a bulk job in resumable chunks."""

import time

from jobs.runtime import hints, step
from metering.counters import unique

RUN_SECONDS = 30.0


def fill(tenant_id: str, metric: str) -> None:
    """Search the ledger day by day; go on in another job when this one has run long enough."""
    started = time.monotonic()
    while time.monotonic() - started < RUN_SECONDS:
        with step() as (session, now):
            more = unique.fill(session, tenant_id, metric, now=now)
        if not more:
            return
    hints().fill_unique(tenant_id, metric)
