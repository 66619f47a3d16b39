"""A bucket lets no more through in any second than its limit, and keeps a reserve."""

import pytest

from metering.stripe.limits import CONNECTED_LIMIT, Limits, LocalLimiter
from metering.stripe.modes import Mode


class Ticks:
    """A clock that is moved by waiting."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def drawn(
    limiter: LocalLimiter,
    ticks: Ticks,
    seconds: float,
    *,
    urgent: bool = False,
    mode: Mode = "test",
) -> list[float]:
    """When calls went through, of a caller who calls as fast as it may."""
    until, at = ticks.now + seconds, []
    while ticks.now < until:
        wait = limiter.acquire(mode, None, urgent=urgent)
        if wait == 0.0:
            at.append(ticks.now)
        ticks.now += wait
    return at


def most_in_a_second(at: list[float]) -> int:
    return max(sum(1 for other in at if start <= other < start + 1.0) for start in at)


@pytest.mark.parametrize(("workers", "whole"), [(1, 12.5), (2, 6.25), (4, 3.125)])
def test_a_worker_alone_takes_half_of_its_share(workers: int, whole: float) -> None:
    ticks = Ticks()
    limiter = LocalLimiter(Limits(test=25), workers=workers, clock=ticks)
    at = drawn(limiter, ticks, 60.0, urgent=True)
    assert most_in_a_second(at) <= whole + 1
    assert len(at) <= 60 * whole
    assert len(at) >= 60 * whole * 0.6


def test_no_second_holds_more_than_the_limit() -> None:
    ticks = Ticks()
    at = drawn(LocalLimiter(Limits(test=100), workers=1, clock=ticks), ticks, 30.0, urgent=True)
    assert most_in_a_second(at) <= 50
    assert len(at) >= 30 * 50 * 0.85


def test_ordinary_calls_leave_a_reserve_to_urgent_ones() -> None:
    ticks = Ticks()
    limiter = LocalLimiter(Limits(live=200), workers=1, clock=ticks)
    ordinary = drawn(limiter, ticks, 30.0, mode="live")
    assert 30 * 100 * 0.6 <= len(ordinary) <= 30 * 100 * 0.7 + 10
    # With the ordinary ones waiting, an urgent call goes at once, or nearly.
    waits = []
    for _ in range(100):
        while limiter.acquire("live", None) == 0.0:
            pass
        waits.append(limiter.acquire("live", None, urgent=True))
        ticks.now += 0.1
    assert max(waits) < 0.02


def test_accounts_and_modes_do_not_wait_for_each_other() -> None:
    limiter = LocalLimiter(Limits(live=1, test=1), workers=1, clock=lambda: 0.0)
    ways: list[tuple[Mode, str | None]] = [("test", None), ("live", None), ("live", "acct_a")]
    for mode, account in ways:
        assert limiter.acquire(mode, account) == 0.0
        assert limiter.acquire(mode, account) > 0.0


def test_a_connected_account_has_stripes_lower_limit() -> None:
    limits = Limits(live=1000, test=25)
    assert limits.of("live", None) == 1000
    assert limits.of("live", "acct_a") == CONNECTED_LIMIT
    assert limits.of("test", "acct_a") == 25


def test_more_calls_than_fit_at_once_are_let_through_and_owed() -> None:
    ticks = Ticks()
    limiter = LocalLimiter(Limits(test=100), workers=1, clock=ticks)
    assert limiter.acquire("test", None, 20, urgent=True) == 0.0
    wait = limiter.acquire("test", None, urgent=True)
    assert wait == pytest.approx((1 + 15) / 45)
