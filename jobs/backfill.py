"""Read a file of past usage into the ledger; a bulk job in resumable chunks."""

import time

from jobs.runtime import hints, step
from metering.ledger.backfill import Reader, advance

RUN_SECONDS = 20.0


def run(tenant_id: str, backfill_id: str) -> None:
    """Read chunk after chunk; go on in another job when this one has run long enough."""
    started = time.monotonic()
    with Reader(tenant_id, backfill_id) as reader:
        while advance(reader, step):
            hints().wake_counters(tenant_id)
            if time.monotonic() - started > RUN_SECONDS:
                hints().read_backfill(tenant_id, backfill_id)
                return
    hints().wake_counters(tenant_id)
