"""How many calls a second an account may make, and how many of its reads were counted.

Source: docs.stripe.com/rate-limits: 100 a second live and 25 in a sandbox over all; meter events
live are apart, 1,000 a second, or 100 with `Stripe-Account`.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType

from sandbox.stripe.core import StripeError

OVERALL_LIVE, OVERALL_TEST = 100, 25
METER_EVENTS_LIVE, METER_EVENTS_CONNECT = 1000, 100
STREAM_LIVE = 10_000
_METER_EVENTS = ("/v1/billing/meter_events", "/v2/billing/meter_events")


class Limits:
    """A bucket per account, mode and kind of call; it holds one second's worth."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._buckets: dict[tuple[str, bool, str], tuple[float, float]] = {}
        self.reads: Counter[tuple[str, bool]] = Counter()

    def take(self, account: str, livemode: bool, path: str, *, connect: bool) -> None:
        """Raises: StripeError (429, with `Stripe-Rate-Limited-Reason`) for a call too many."""
        kind, rate = _kind(livemode, path, connect)
        now = self._seconds()
        left, at = self._buckets.get((account, livemode, kind), (float(rate), now))
        left = min(float(rate), left + max(0.0, now - at) * rate)
        taken = left >= 1
        self._buckets[account, livemode, kind] = (left - 1 if taken else left, now)
        if not taken:
            reason = "global-rate" if kind == "overall" else "endpoint-rate"
            raise refusal(reason)


def _kind(livemode: bool, path: str, connect: bool) -> tuple[str, int]:
    if livemode and path in _METER_EVENTS:
        return "meter_events", METER_EVENTS_CONNECT if connect else METER_EVENTS_LIVE
    if path == "/v2/billing/meter_event_stream":
        return "stream", STREAM_LIVE
    return "overall", OVERALL_LIVE if livemode else OVERALL_TEST


def refusal(reason: str | None, extra: Mapping[str, str] = MappingProxyType({})) -> StripeError:
    headers = dict(extra)
    message = "Request rate limit exceeded. Learn more: https://stripe.com/docs/rate-limits"
    if reason is not None:
        headers["Stripe-Rate-Limited-Reason"] = reason
    return StripeError(429, message, code="rate_limit", headers=headers)
