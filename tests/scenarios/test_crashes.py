"""What is killed, when, and that the counters are right all the same."""

import http.client
import json
import threading
import time
from typing import Any

from tests.scenarios.stack import Stack, eventually
from tests.scenarios.test_retries_at_once import event

SUM = "SELECT sum_value FROM counters WHERE tenant_id = :t"


def test_the_web_is_killed_between_commit_and_enqueue(stack: Stack, acme: str) -> None:
    """Life 3. The client gets no answer, retries, and sees a duplicate; the counter is right
    without another event arriving."""
    stack.ingest([event(f"{acme}-other")])  # connections are made before Redis goes silent
    with stack.black_holed_redis():
        connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=10)
        body = json.dumps({"events": [event(acme, "k")]})
        connection.request("POST", "/v1/events/ingest", body, {"Content-Type": "application/json"})
        committed = "SELECT 1 FROM events WHERE tenant_id = :t"
        while not stack.scalar(committed, t=acme):  # then it waits 100 ms for Redis
            time.sleep(0.001)
        stack.kill("web")
        answered = True
        try:
            connection.getresponse()
        except (OSError, http.client.HTTPException):
            answered = False
        connection.close()
    assert not answered, "the answer was sent before the kill: nothing was tested"
    stack.start_web()
    assert stack.ingest([event(acme, "k")])["results"][0]["status"] == "duplicate"
    stack.start_worker()
    stack.start_clock()
    stack.wait_until_folded(acme)
    assert stack.scalar(SUM, t=acme) == 2


def test_redis_is_down_and_comes_back_empty(stack: Stack, acme: str) -> None:
    """Life 4. Ingest answers 200 all the while; the counters become right by themselves."""
    stack.start_worker()
    stack.valkey.kill()
    assert stack.ingest([event(acme, "while-down")])["accepted"] == 1
    assert stack.request("GET", "/health/ready") == (200, {"status": "ok", "degraded": ["redis"]})
    stack.valkey.start()
    stack.start_clock()
    stack.wait_until_folded(acme)
    assert stack.scalar(SUM, t=acme) == 2


def test_redis_stays_away_and_usage_is_counted_by_the_clock(stack: Stack, acme: str) -> None:
    stack.valkey.kill()
    stack.start_clock()
    stack.ingest([event(acme, "nobody-hints")])
    stack.wait_until_folded(acme)
    assert stack.scalar(SUM, t=acme) == 2


def test_redis_takes_connections_and_never_answers(stack: Stack, acme: str) -> None:
    """Black-holed: an ingest costs at most a few times 100 ms, then nothing for a second."""
    stack.ingest([event(f"{acme}-other")])
    stack.start_clock()
    with stack.black_holed_redis():
        started = time.monotonic()
        for i in range(20):
            assert stack.ingest([event(acme, f"k{i}")])["accepted"] == 1
        assert time.monotonic() - started < 5
        stack.wait_until_folded(acme)
    assert stack.scalar(SUM, t=acme) == 40


def test_redis_is_emptied_while_hints_are_waiting(stack: Stack, acme: str) -> None:
    import redis

    connection, sent = redis.Redis.from_url(stack.valkey.url), 0

    def hinted() -> bool:
        # A web process that found Redis silent, in an earlier life, leaves it alone for a second.
        nonlocal sent
        stack.ingest([event(acme, f"k{sent}")])
        sent += 1
        return connection.dbsize() > 0

    eventually(hinted, "a hint is waiting")
    connection.flushall()
    connection.close()
    stack.start_worker()
    stack.start_clock()
    stack.wait_until_folded(acme)
    assert stack.scalar(SUM, t=acme) == 2 * sent


def test_a_worker_dies_in_mid_fold_and_postgres_restarts(stack: Stack, acme: str) -> None:
    """Life 10. 20,000 events; the worker is killed while it folds, Postgres restarted while
    events come in; totals are exact after recovery."""
    stack.start_worker()
    stack.start_clock()
    failures: list[BaseException] = []

    def send() -> None:
        try:
            for batch in range(20):
                events = [
                    event(acme, f"{batch:02d}-{i:03d}", customerRef=f"cus_{i % 37}")
                    for i in range(1000)
                ]
                stack.ingest(events)
        except (AssertionError, OSError) as error:  # handed to the test, which shows it
            failures.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    counted = "SELECT coalesce(sum(event_count), 0) FROM counters WHERE tenant_id = :t"
    eventually(lambda: stack.scalar(counted, t=acme) > 0, "some events are counted")
    _kill_in_mid_fold(stack)
    stack.start_worker()
    stack.postgres.restart()
    sender.join(120)
    assert not sender.is_alive()
    assert not failures, failures
    stack.wait_until_folded(acme)
    total: Any = stack.scalar("SELECT sum(sum_value) FROM counters WHERE tenant_id = :t", t=acme)
    assert total == 40_000
    assert stack.scalar(counted, t=acme) == 20_000


def _kill_in_mid_fold(stack: Stack) -> None:
    """Kill the worker while one of its transactions is open, or after 2 s in any case."""
    folding = (
        "SELECT 1 FROM pg_stat_activity WHERE application_name = 'stripemeter worker'"
        " AND state = 'active' AND query LIKE '%%DELETE FROM unfolded%%'"
    )
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline and not stack.scalar(folding):
        pass
    stack.kill("worker")
