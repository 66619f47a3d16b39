"""Processes that share a Redis share a limit; without one, each takes its part."""

import socket
import time
import uuid
from collections.abc import Iterator

import pytest
import redis

from jobs.limits import RedisLimiter
from metering.stripe.limits import Limits, LocalLimiter


@pytest.fixture
def account() -> str:
    """An account that no other test calls."""
    return f"acct_{uuid.uuid4().hex}"


@pytest.fixture
def nowhere() -> Iterator[str]:
    """A Redis that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield f"redis://127.0.0.1:{silent.getsockname()[1]}/0"


def test_two_workers_share_one_limit(redis_url: str, account: str) -> None:
    limits = Limits(test=50)
    workers = [RedisLimiter(redis_url, limits, workers=2) for _ in range(2)]
    taken = [0, 0]
    started = time.monotonic()
    while (passed := time.monotonic() - started) < 1.0:
        for number, worker in enumerate(workers):
            taken[number] += worker.acquire("test", account, urgent=True) == 0.0
        time.sleep(0.002)
    # Burst and flow of one bucket, not of two.
    assert 15 <= sum(taken) <= 5 + 45 * passed + 1
    assert min(taken) > 0


def test_ordinary_calls_leave_a_reserve(redis_url: str, account: str) -> None:
    limiter = RedisLimiter(redis_url, Limits(test=10), workers=1)
    assert limiter.acquire("test", account) == 0.0
    assert 0.0 < limiter.acquire("test", account) <= 1 / 7 + 0.001
    time.sleep(1 / 9 + 0.01)
    assert limiter.acquire("test", account, urgent=True) == 0.0


def test_a_refusal_takes_nothing_and_says_how_long(redis_url: str, account: str) -> None:
    limiter = RedisLimiter(redis_url, Limits(test=2), workers=1)
    assert limiter.acquire("test", account, urgent=True) == 0.0
    waits = [limiter.acquire("test", account, urgent=True) for _ in range(20)]
    assert 0.0 < waits[-1] <= waits[0] <= 1.001


def test_what_is_full_again_is_forgotten(redis_url: str, account: str) -> None:
    limiter = RedisLimiter(redis_url, Limits(test=100), workers=1)
    limiter.acquire("test", account, 5)
    with redis.Redis.from_url(redis_url) as connection:
        left = connection.pttl(f"sm:stripe:limit:test:{account}")
    assert 0 < left <= 2000


def test_modes_and_accounts_are_apart(redis_url: str, account: str) -> None:
    limiter = RedisLimiter(redis_url, Limits(live=1, test=1), workers=1)
    assert limiter.acquire("test", account) == 0.0
    assert limiter.acquire("test", account) > 0.0
    assert limiter.acquire("live", account) == 0.0
    assert limiter.acquire("test", f"{account}x") == 0.0


def test_a_redis_that_lost_everything_begins_anew(redis_url: str, account: str) -> None:
    """Also its script: it is sent again."""
    limiter = RedisLimiter(redis_url, Limits(test=1), workers=1)
    assert limiter.acquire("test", account) == 0.0
    with redis.Redis.from_url(redis_url) as connection:
        connection.delete(f"sm:stripe:limit:test:{account}")
        connection.script_flush()
    assert limiter.acquire("test", account) == 0.0


def test_without_redis_each_worker_takes_its_part(nowhere: str, account: str) -> None:
    limits = Limits(test=100)
    limiter = RedisLimiter(nowhere, limits, workers=5)
    alone = LocalLimiter(limits, workers=5, clock=lambda: 0.0)
    started = time.monotonic()
    taken = sum(limiter.acquire("test", account, urgent=True) == 0.0 for _ in range(1000))
    passed = time.monotonic() - started
    expected = sum(alone.acquire("test", account, urgent=True) == 0.0 for _ in range(1000))
    assert expected <= taken <= expected + 10 * passed + 1
    # It costs its time-out once, and then nothing for a second.
    assert 0.1 <= passed < 0.9
