"""Tell Stripe what it has not heard: claim in a step, send between steps, settle in a step."""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cache

from sqlalchemy.exc import SQLAlchemyError

from jobs import stripe_calls
from jobs.runtime import config, hints, step
from jobs.stripe_calls import ORDINARY_SHARE
from metering import installation
from metering.stripe import confirming, deltas, rollover, unsent
from metering.stripe.backlog import Backlog
from metering.stripe.claims import Claim, Outcome

log = logging.getLogger(__name__)

# A stripe job runs at most 20 s.
RUN_SECONDS = 15.0
# Calls in flight at once; each waits for Stripe most of its time.
AT_ONCE = 8
LEAST_CADENCE = timedelta(seconds=10)
CADENCE_KEPT_SECONDS = 60.0
# What cannot be sent is looked at again after so long, if nothing has released it before.
HELD_FOR = timedelta(hours=1)
# How long a tenant in which nothing more was to be confirmed is taken to stay so; what is in doubt
# does not wait. By tenant: from when on this process looks again.
CONFIRM_AGAIN_SECONDS = 30.0
_confirm_again: dict[str, float] = {}


def push(tenant_id: str) -> int:
    """Push what is due of a tenant until nothing is, or time is up. Returns: calls made."""
    hints().lower_push_flag(tenant_id)
    started, calls = time.monotonic(), 0
    cadence, backlog = _Cadence(tenant_id), Backlog(tenant_id)
    with step() as (session, now):
        unsent.release_due(session, tenant_id, now=now, later=now + HELD_FOR)
    while time.monotonic() - started < RUN_SECONDS:
        with step() as (session, now):
            turn = deltas.claim(
                session,
                tenant_id,
                now=now,
                default_account=config().stripe_account,
                cadence=cadence,
                backlog=backlog,
            )
        if turn.claims:
            outcomes = _send(turn.claims)
            with step() as (session, now):
                deltas.settle(session, outcomes, now=now)
            calls += len(outcomes)
        elif not turn.rows and not confirm(tenant_id):
            return calls
    # Also of a tenant that always has something to tell: what is in doubt blocks its stream.
    confirm(tenant_id)
    hints().push(tenant_id)
    return calls


def confirm(tenant_id: str) -> int:
    """Read Stripe's own totals of some streams where they are wanted, and settle what they tell.

    Returns: streams asked about.
    """
    is_every = time.monotonic() >= _confirm_again.get(tenant_id, 0.0)
    with step() as (session, now):
        checks = confirming.due(session, tenant_id, now=now, only_doubtful=not is_every)
    if is_every and len(checks) < confirming.MOST:
        _confirm_again[tenant_id] = time.monotonic() + CONFIRM_AGAIN_SECONDS
    for check, totals in zip(checks, _pool().map(stripe_calls.hourly_totals, checks), strict=True):
        if totals is None:
            continue
        with step() as (session, now):
            judged = confirming.judge(session, check, totals, now=now)
        if judged.rejected or judged.drifted:
            log.warning("stripe does not hold what was pushed", extra={"pushes": judged.rejected})
    return len(checks)


def tick() -> None:
    """Wake the tenants that have something to tell; push here while Redis is away."""
    with step() as (session, now):
        busy = installation.tenants_with_pushes(session, now=now)
    _of_each(busy, lambda tenant_id: hints().push(tenant_id) or push(tenant_id))


def confirm_all() -> None:
    """Have every connected tenant's pushes confirmed, and its gauges carried over."""
    with step() as (session, _):
        connected = installation.connected_tenants(session)
    _of_each(connected, _carry)


def _carry(tenant_id: str) -> None:
    cursor: rollover.Gauge | None = rollover.FIRST
    while cursor is not None:
        with step() as (session, now):
            _, cursor = rollover.carry(session, tenant_id, now=now, after=cursor)
    hints().push(tenant_id)


def _of_each(tenant_ids: Sequence[str], work: Callable[[str], object]) -> None:
    """One tenant's trouble is not the next one's."""
    for tenant_id in tenant_ids:
        try:
            work(tenant_id)
        except (SQLAlchemyError, OSError) as error:
            log.error("a tenant's turn failed", extra={"tenant": tenant_id}, exc_info=error)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="stripe")


def _send(claims: Sequence[Claim]) -> list[tuple[Claim, Outcome]]:
    """Send them side by side; every one is of another stream."""
    if len(claims) == 1:
        return [(claims[0], stripe_calls.send(claims[0]))]
    return list(zip(claims, _pool().map(stripe_calls.send, claims), strict=True))


class _Cadence:
    """max(10 s, open streams / 0.7 of the limit): the more streams, the rarer each segment."""

    def __init__(self, tenant_id: str) -> None:
        self.tenant_id = tenant_id
        self._known: dict[str, timedelta] = {}
        self._until = 0.0

    def __call__(self, mode: str, account_id: str) -> timedelta:
        if time.monotonic() > self._until:
            with step() as (session, now):
                busy = unsent.busy_streams(session, self.tenant_id, now=now)
            self._known = {each: self._of(each, count) for each, count in busy.items()}
            self._until = time.monotonic() + CADENCE_KEPT_SECONDS
        return self._known.get(mode, LEAST_CADENCE)

    def _of(self, mode: str, streams: int) -> timedelta:
        limit = config().stripe_limit_live if mode == "live" else config().stripe_limit_test
        return max(LEAST_CADENCE, timedelta(seconds=streams / (ORDINARY_SHARE * limit)))
