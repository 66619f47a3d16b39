"""Read a file of past usage into the ledger; a bulk job in resumable chunks."""

import time

from sqlalchemy.exc import DBAPIError

from jobs.runtime import hints, step
from metering.database import blames_the_data
from metering.ledger.backfill import Reader

RUN_SECONDS = 20.0


def run(tenant_id: str, backfill_id: str) -> None:
    """Read chunk after chunk; go on in another job when this one has run long enough."""
    started = time.monotonic()
    with Reader(tenant_id, backfill_id) as reader:
        while _advance(reader):
            hints().wake_counters(tenant_id)
            if time.monotonic() - started > RUN_SECONDS:
                hints().read_backfill(tenant_id, backfill_id)
                return
    hints().wake_counters(tenant_id)


def _advance(reader: Reader) -> bool:
    try:
        with step() as (session, now):
            return reader.advance(session, now=now)
    except DBAPIError as error:
        if not blames_the_data(error):
            raise
    with step() as (session, now):
        return reader.advance(session, now=now, careful=True)
