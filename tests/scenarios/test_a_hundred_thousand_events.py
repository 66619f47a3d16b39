"""Everything at once: 100,000 events, duplicates, shuffled times, a worker killed twice."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from tests.scenarios.stack import Stack
from tests.support import computed, counters

DISTINCT, DUPLICATES, CUSTOMERS = 80_000, 20_000, 1_000


def test_every_counter_equals_an_independent_computation(stack: Stack, acme: str) -> None:
    chance = random.Random(20261123)
    start = datetime(2026, 9, 1, tzinfo=UTC)
    events = [
        {
            "tenantId": acme,
            "metric": "api_calls",
            "customerRef": f"cus_{chance.randrange(CUSTOMERS):04d}",
            "quantity": f"{Decimal(chance.randrange(10**9)).scaleb(-6):f}",
            "ts": (start + timedelta(microseconds=chance.randrange(80 * 86_400_000_000)))
            .isoformat()
            .replace("+00:00", "Z"),
            "resourceId": f"r{chance.randrange(20)}",
            "idempotencyKey": f"k{i:06d}",
        }
        for i in range(DISTINCT)
    ]
    sent = events + chance.choices(events, k=DUPLICATES)
    chance.shuffle(sent)
    status, answer = stack.request(
        "PUT", "/v1/metrics/api_calls", {"tenantId": acme, "unique": True}
    )
    assert status == 200, answer
    stack.start_worker()
    stack.start_clock()
    totals: dict[str, int] = {"accepted": 0, "duplicates": 0, "rejected": 0}
    for at in range(0, len(sent), 1000):
        if at in (30_000, 70_000):
            stack.kill("worker")
            stack.start_worker()
        outcome = stack.ingest(sent[at : at + 1000])
        for name in totals:
            totals[name] += outcome[name]
    assert totals == {"accepted": DISTINCT, "duplicates": DUPLICATES, "rejected": 0}
    stack.wait_until_folded(acme)
    expected: Any = computed(
        (
            (
                e["customerRef"],
                e["metric"],
                datetime.fromisoformat(e["ts"]),
                e["idempotencyKey"],
                Decimal(e["quantity"]),
                e["resourceId"],
            )
            for e in events
        ),
        unique=True,
    )
    with Session(stack.engine) as session:
        assert counters(session, acme) == expected
    assert len(expected) >= 2 * CUSTOMERS
