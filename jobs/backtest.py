"""Answer a back-test; a bulk job in resumable chunks."""

import time

from jobs.runtime import hints, step
from metering.billing import backtest

RUN_SECONDS = 20.0


def run(tenant_id: str, backtest_id: str) -> None:
    """Price chunk after chunk; go on in another job when this one has run long enough."""
    started = time.monotonic()
    with step() as (session, now):
        more = backtest.begin(session, tenant_id, backtest_id, now=now)
    while more:
        if time.monotonic() - started > RUN_SECONDS:
            hints().answer_backtest(tenant_id, backtest_id)
            return
        with step() as (session, now):
            more = backtest.advance(session, tenant_id, backtest_id, now=now)
