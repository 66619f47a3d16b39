"""The limits of Stripe's calls, shared by all processes through Redis.

Keys:
    sm:stripe:limit:{mode}:{account}    a hash of what is left; expires when it is full again

The account is `own` where it is the keys' own. One script asks and takes in one step, by Redis's
own clock, so that the clocks of machines need not agree. A Redis that does not answer costs a call
100 ms once, and then nothing for a second: meanwhile each process takes its part of the limit.
"""

import logging
import time

import redis

from metering.stripe.limits import Limits, LocalLimiter, Rates, rates
from metering.stripe.modes import Mode
from webapp import telemetry
from webapp.queues import PAUSE_SECONDS, TIMEOUT_SECONDS, connect

log = logging.getLogger(__name__)

# The same bucket as `metering.stripe.limits`: two of them, of which an urgent call asks only the
# first. Returns the seconds to wait, as a text; nothing is taken unless they are none.
_SCRIPT = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local calls, burst, urgent = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local rate = {whole = tonumber(ARGV[4]), ordinary = tonumber(ARGV[5])}
local kept = redis.call('HMGET', KEYS[1], 'at', 'whole', 'ordinary')
local passed = math.max(0, now - (tonumber(kept[1]) or now))
local left = {
    whole = math.min(burst, (tonumber(kept[2]) or burst) + passed * rate.whole),
    ordinary = math.min(burst, (tonumber(kept[3]) or burst) + passed * rate.ordinary),
}
local asked = urgent and {'whole'} or {'whole', 'ordinary'}
local wait = 0
for _, name in ipairs(asked) do
    local missing = math.min(calls, burst) - left[name]
    if missing > 1e-9 then wait = math.max(wait, missing / rate[name]) end
end
if wait > 0 then return string.format('%.9f', wait) end
for _, name in ipairs(asked) do left[name] = left[name] - calls end
redis.call('HSET', KEYS[1], 'at', string.format('%.6f', now),
    'whole', string.format('%.9f', left.whole), 'ordinary', string.format('%.9f', left.ordinary))
redis.call('PEXPIRE', KEYS[1],
    math.ceil(1000 * math.max((burst - left.whole) / rate.whole,
                              (burst - left.ordinary) / rate.ordinary)) + 1000)
return '0'
"""


class RedisLimiter:
    """One limit for all who share a Redis; each its part of it while Redis is away."""

    def __init__(self, url: str, limits: Limits, *, workers: int, verify_tls: bool = True) -> None:
        """workers: how many processes may call Stripe at once; counts only without Redis."""
        self._redis = connect(url, verify_tls=verify_tls, timeout_seconds=TIMEOUT_SECONDS)
        self._take = self._redis.register_script(_SCRIPT)
        self._limits, self._local = limits, LocalLimiter(limits, workers=workers)
        self._silent_until = 0.0

    def acquire(
        self, mode: Mode, account: str | None, calls: int = 1, *, urgent: bool = False
    ) -> float:
        if time.monotonic() >= self._silent_until:
            try:
                return self._shared(mode, account, calls, urgent=urgent)
            except redis.RedisError as error:
                self._fall_silent(error)
        return self._local.acquire(mode, account, calls, urgent=urgent)

    def _shared(self, mode: Mode, account: str | None, calls: int, *, urgent: bool) -> float:
        filled: Rates = rates(self._limits.of(mode, account))
        wait = self._take(
            keys=[f"sm:stripe:limit:{mode}:{account or 'own'}"],
            args=[calls, filled.burst, int(urgent), filled.whole, filled.ordinary],
        )
        return float(wait)

    def _fall_silent(self, error: redis.RedisError) -> None:
        telemetry.REDIS_ERRORS.inc()
        self._silent_until = time.monotonic() + PAUSE_SECONDS
        log.warning("redis is not answering; each process takes its part", exc_info=error)
