"""The web's and the command line's way to Stripe, or the sentence that says why there is none.

Workers have one of their own (`jobs.stripe_calls`), which shares its limits through Redis; what
people ask for is little enough for a part of the limit.
"""

import os
from functools import lru_cache

from metering.errors import ConflictError
from metering.stripe.driver import Driver
from metering.stripe.limits import Limits, LocalLimiter
from metering.stripe.modes import Mode
from webapp.config import Config


def driver(config: Config) -> Driver:
    """This process's driver; a mode without a key refuses every call by itself."""
    return _driver(os.getpid(), config)


@lru_cache(maxsize=4)
def _driver(pid: int, config: Config) -> Driver:
    limits = Limits(config.stripe_limit_live, config.stripe_limit_test)
    return Driver(
        config.stripe_live_key,
        config.stripe_test_key,
        base_url=config.stripe_api_base,
        own_account=config.stripe_account,
        limiter=LocalLimiter(limits, workers=config.web_concurrency),
    )


def has_key(config: Config, mode: str) -> bool:
    return (config.stripe_live_key if mode == "live" else config.stripe_test_key) is not None


def why_not(config: Config, mode: str, *, tenant_mode: str) -> str | None:
    """Why nothing can be called in this mode; None: it can."""
    if mode == "live" and tenant_mode == "test":
        return "a test tenant has no live destination"
    if not has_key(config, mode):
        return f"there is no {mode} key: set STRIPE_{mode.upper()}_KEY"
    return None


def ready(config: Config, mode: Mode, *, tenant_mode: str) -> Driver:
    """The driver, where the mode can be called. Raises: ConflictError saying why it cannot."""
    reason = why_not(config, mode, tenant_mode=tenant_mode)
    if reason is not None:
        raise ConflictError(f"{reason}; nothing was called")
    return driver(config)
