"""Many clients with the same events, at the same time."""

import threading
from collections import Counter
from typing import Any

from tests.scenarios.stack import Stack


def event(tenant: str, key: str | None = None, **more: Any) -> dict[str, Any]:
    made = {
        "tenantId": tenant,
        "metric": "api_calls",
        "customerRef": "cus_1",
        "quantity": 2,
        "ts": "2026-11-10T12:00:00Z",
        **more,
    }
    return made if key is None else {**made, "idempotencyKey": key}


def at_once(calls: list[Any]) -> list[Any]:
    """Run the calls in threads that start together; what each returned, errors raised."""
    barrier, results = threading.Barrier(len(calls)), [None] * len(calls)

    def run(i: int) -> None:
        barrier.wait()
        results[i] = calls[i]()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(result is not None for result in results)
    return results


def test_fifty_identical_events_at_once_count_once(stack: Stack, acme: str) -> None:
    """Life 1. On fifty connections of two web processes."""
    stack.start_worker()
    answers = at_once([lambda: stack.ingest([event(acme)])] * 50)
    verdicts = Counter(answer["results"][0]["status"] for answer in answers)
    assert verdicts == {"accepted": 1, "duplicate": 49}
    stack.wait_until_folded(acme)
    assert stack.scalar("SELECT sum_value FROM counters WHERE tenant_id = :t", t=acme) == 2


def test_batches_with_the_same_keys_in_opposite_order_do_not_deadlock(
    stack: Stack, acme: str
) -> None:
    """Life 2. Ten rounds of two batches of 500, one of them backwards."""
    stack.ingest([event(acme, "first")])
    for round_ in range(10):
        batch = [event(acme, f"{round_}-{i:04d}") for i in range(500)]
        answers = at_once([lambda b=batch: stack.ingest(b), lambda b=batch[::-1]: stack.ingest(b)])
        assert sum(answer["accepted"] for answer in answers) == 500
        assert sum(answer["duplicates"] for answer in answers) == 500
        assert sum(answer["rejected"] for answer in answers) == 0
    stack.start_worker()
    stack.start_clock()
    stack.wait_until_folded(acme)
    assert stack.scalar("SELECT sum_value FROM counters WHERE tenant_id = :t", t=acme) == 10_002
