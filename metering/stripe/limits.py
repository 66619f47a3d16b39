"""How fast we may call Stripe: a token bucket per account and mode, with a reserve.

Ordinary calls take at most 0.7 of a limit, so that there is always room for the last usage of a
period that is about to close. Within any one second a bucket lets no more calls through than the
limit: what may come at once and what flows in during the second add up to it.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from metering.stripe.modes import Mode

# What ordinary calls may take of a limit; flushes may take all of it.
ORDINARY_SHARE = 0.7
# What may come at once; the rest of the limit flows in evenly.
BURST_SHARE = 0.1
# Stripe's own limit on calls for a connected account, whatever the platform's is.
CONNECTED_LIMIT = 100


class Limiter(Protocol):
    """Says when the next call may be made."""

    def acquire(
        self, mode: Mode, account: str | None, calls: int = 1, *, urgent: bool = False
    ) -> float:
        """Seconds to wait before the call. 0.0: go, the calls are counted; else nothing is
        counted yet, and the question is to be asked again after that time.

        account: None is the keys' own.  urgent: may use the reserve.
        """
        ...


@dataclass(frozen=True)
class Limits:
    """Calls a second that an account takes, by mode."""

    live: int = 1000
    test: int = 25

    def of(self, mode: Mode, account: str | None) -> float:
        limit = float(self.live if mode == "live" else self.test)
        return limit if account is None else min(limit, CONNECTED_LIMIT)


class Unlimited:
    """Never waits: for tests, and for a stand-in whose limits are lifted."""

    def acquire(
        self, mode: Mode, account: str | None, calls: int = 1, *, urgent: bool = False
    ) -> float:
        return 0.0


class LocalLimiter:
    """This process's part of the limits, for when nobody can be asked what others take.

    workers: how many processes may call at once. Each takes half of its fair share, for web and
             workers may both be calling; better slow than refused.
    clock:   seconds that only ever grow.
    """

    def __init__(
        self, limits: Limits, *, workers: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits, self._clock = limits, clock
        self._share = 1.0 / (2 * max(1, workers))
        self._buckets: dict[tuple[Mode, str | None], tuple[_Bucket, _Bucket]] = {}
        self._lock = threading.Lock()

    def acquire(
        self, mode: Mode, account: str | None, calls: int = 1, *, urgent: bool = False
    ) -> float:
        with self._lock:
            now = self._clock()
            whole, ordinary = self._of(mode, account, now)
            asked = (whole,) if urgent else (whole, ordinary)
            wait = max(bucket.wait(calls, now) for bucket in asked)
            if wait == 0.0:
                for bucket in asked:
                    bucket.take(calls)
            return wait

    def _of(self, mode: Mode, account: str | None, now: float) -> "tuple[_Bucket, _Bucket]":
        if (mode, account) not in self._buckets:
            whole = rates(self._limits.of(mode, account) * self._share)
            self._buckets[mode, account] = (
                _Bucket(whole.whole, whole.burst, now),
                _Bucket(whole.ordinary, whole.burst, now),
            )
        return self._buckets[mode, account]


@dataclass(frozen=True)
class Rates:
    """A limit as its bucket is filled. whole, ordinary: calls a second.  burst: calls."""

    whole: float
    ordinary: float
    burst: float


def rates(limit: float) -> Rates:
    """How a bucket is filled that lets at most `limit` calls through in any second.

    Of a limit below ten calls a second, one call at once must still be possible.
    """
    burst = max(1.0, limit * BURST_SHARE)
    whole = max(limit - burst, limit * (1 - BURST_SHARE) / 2)
    return Rates(whole, min(whole, limit * ORDINARY_SHARE), burst)


class _Bucket:
    """Tokens that flow in at a rate, up to a burst."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._filled_at = burst, now

    def wait(self, calls: int, now: float) -> float:
        """Seconds until there are tokens for the calls. More calls than fit in at once are let
        through on a full bucket, and are owed."""
        flowed = max(0.0, now - self._filled_at) * self._rate
        self._tokens, self._filled_at = min(self._burst, self._tokens + flowed), now
        missing = min(float(calls), self._burst) - self._tokens
        return missing / self._rate if missing > 1e-9 else 0.0

    def take(self, calls: int) -> None:
        self._tokens -= calls
