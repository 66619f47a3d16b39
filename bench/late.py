"""10,000 late events, from the last answer until the counters hold them.

Ten batches of events that happened up to eight days ago, in periods that are open, each behind its
counter's watermark: the counters are first filled with newer events of the same customers.
"""

import json
import random
import statistics
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from bench.events import BATCH, METRIC
from bench.rounds import Line
from bench.setting import TENANT, Setting
from bench.together import counted

BATCHES, CUSTOMERS, DAYS = 10, 200, 8


def late(setting: Setting) -> Line:
    """The median of several times."""
    seconds = []
    for attempt in range(2 if setting.quick else 5):
        setting.empty()
        now = datetime.now(UTC)
        with setting.stack.folding():
            newest = _bodies(attempt, now - timedelta(minutes=5), timedelta(minutes=1), batches=1)
            expected = _post_all(setting, newest)
            counted(setting, expected)
            behind = _bodies(attempt + 100, now - timedelta(days=DAYS), timedelta(days=DAYS - 1))
            expected += _post_all(setting, behind)
            answered = time.monotonic()
            counted(setting, expected)
            seconds.append(time.monotonic() - answered)
        noted = setting.value("SELECT sum(reaggregations) FROM counters WHERE tenant_id = %s",
                              TENANT)  # fmt: skip
        if not noted:
            raise RuntimeError("no event was late: nothing was measured")
    return Line(
        "late",
        f"last answer to right counters, {BATCHES * BATCH:,} late events",
        statistics.median(seconds),
        "s",
        spread=(min(seconds), max(seconds)),
    )


def _bodies(
    seed: int, start: datetime, span: timedelta, batches: int = BATCHES
) -> list[tuple[bytes, Decimal]]:
    """(the body, the sum of its quantities) of each batch."""
    chance = random.Random(seed)
    made = []
    for _ in range(batches):
        quantities = [Decimal(chance.randrange(1, 1000)) / 10 for _ in range(BATCH)]
        events = [
            {
                "tenantId": TENANT,
                "metric": METRIC,
                "customerRef": f"cus_{chance.randrange(CUSTOMERS):04d}",
                "quantity": str(quantity),
                "ts": (start + span * chance.random()).isoformat(timespec="microseconds"),
                "idempotencyKey": f"{chance.getrandbits(96):024x}",
            }
            for quantity in quantities
        ]
        made.append((json.dumps({"events": events}).encode(), sum(quantities, Decimal(0))))
    return made


def _post_all(setting: Setting, bodies: list[tuple[bytes, Decimal]]) -> Decimal:
    """Send one after the other; the sum of what was accepted."""
    for body, _ in bodies:
        request = urllib.request.Request(
            f"http://127.0.0.1:{setting.stack.port}/v1/events/ingest",
            body,
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            if json.load(answer)["accepted"] != BATCH:
                raise RuntimeError("an event was not accepted")
    return sum((total for _, total in bodies), Decimal(0))
