"""Calls to Stripe on behalf of jobs: paced, and told in the words of the core."""

import logging
import os
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import cast

from jobs.limits import RedisLimiter
from jobs.runtime import config
from metering.stripe import recording
from metering.stripe.claims import Claim, Outcome
from metering.stripe.confirming import Check
from metering.stripe.driver import Driver, StripeFault
from metering.stripe.limits import ORDINARY_SHARE, Limits
from metering.stripe.modes import Mode
from webapp import clock

log = logging.getLogger(__name__)

# How many processes are taken to call Stripe at once while Redis cannot say who does.
WORKERS = 2

__all__ = ["ORDINARY_SHARE", "driver", "hourly_totals", "send"]


@cache
def _driver_of(pid: int) -> Driver:
    settings = config()
    limits = Limits(settings.stripe_limit_live, settings.stripe_limit_test)
    return Driver(
        settings.stripe_live_key,
        settings.stripe_test_key,
        base_url=settings.stripe_api_base,
        own_account=settings.stripe_account,
        limiter=RedisLimiter(
            settings.redis_url, limits, workers=WORKERS, verify_tls=settings.redis_tls_verify
        ),
    )


def driver() -> Driver:
    """This process's way to Stripe."""
    return _driver_of(os.getpid())


def send(claim: Claim) -> Outcome:
    """Send one push; whatever happens is an outcome, never an error."""
    return recording.send(driver(), claim, now=clock.wall())


def hourly_totals(check: Check) -> Mapping[datetime, Decimal] | None:
    """Stripe's totals of a stream by the hour; None if it cannot be asked just now."""
    stream = check.stream
    totals: dict[datetime, Decimal] = {}
    try:
        for meter_id in check.meter_ids:
            for summary in driver().summaries(
                cast(Mode, stream.mode),
                stream.account_id,
                meter_id,
                stream.stripe_customer,
                check.start_at,
                check.end_at,
                window="hour",
            ):
                totals[summary.start_at] = totals.get(summary.start_at, Decimal(0)) + summary.value
    except StripeFault as fault:
        log.warning("a summary could not be read", extra={"kind": fault.kind})
        return None
    return totals
