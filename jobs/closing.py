"""Close billing periods whose time is over, and see to what Stripe took too late."""

import logging
import time

from jobs.runtime import config, hints, step
from metering import installation
from metering.counters import closing
from metering.stripe import unbilled

log = logging.getLogger(__name__)

# A counters job runs at most 20 s; what is left is found by the clock's next look.
RUN_SECONDS = 10.0


def look() -> None:
    """Have every tenant's due periods closed; here while Redis is away."""
    with step() as (session, now):
        installation.set_lateness(session, config().lateness_seconds)
        due = installation.tenants_with_closings(session, due_at=now - closing.GRACE)
    for tenant_id in due:
        if not hints().close_periods(tenant_id):
            close(tenant_id)


def close(tenant_id: str) -> int:
    """Close a tenant's due periods, stretch by stretch. Returns: how many."""
    started, closed = time.monotonic(), 0
    while time.monotonic() - started < RUN_SECONDS:
        with step() as (session, now):
            found = closing.close_due(session, tenant_id, now=now)
        closed += found
        if found < closing.STRETCH:
            break
    if closed:
        log.info("closed billing periods", extra={"periods": closed})
    return closed


def look_for_unbilled() -> None:
    """Propose adjustments for what Stripe has and bills on no invoice, or was never sent."""
    with step() as (session, _):
        connected = installation.connected_tenants(session)
    for tenant_id in connected:
        propose(tenant_id)


def propose(tenant_id: str) -> None:
    """The same for one tenant, stretch by stretch; what there is no time for is found again."""
    started = time.monotonic()
    with step() as (session, _):
        places = unbilled.places(session, tenant_id)
    for begin in range(0, len(places), unbilled.STRETCH):
        if time.monotonic() - started > RUN_SECONDS:
            return
        with step() as (session, now):
            stretch = places[begin : begin + unbilled.STRETCH]
            unbilled.propose(session, tenant_id, stretch, now=now)
