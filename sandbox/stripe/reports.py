"""Reports of meter events that were accepted and then rejected: a count, and a few by name.

Source: docs.stripe.com, `v1.billing.meter.error_report_triggered` and `…no_meter_found`.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sandbox.stripe import instants
from sandbox.stripe.core import Json, Partition

WINDOW_SECONDS = 10


def tell(world: Any, partition: Partition, rejected: Sequence[Json]) -> None:
    """One report for each meter, and one for the events that have none."""
    by_meter: dict[str | None, list[Json]] = defaultdict(list)
    for record in rejected:
        by_meter[record["meter"]].append(record)
    for meter, records in by_meter.items():
        data = _data(records, world.settings.error_samples, world.now())
        if meter is None:
            world.notify(partition, "v1.billing.meter.no_meter_found", None, data)
            continue
        related = {"id": meter, "type": "billing.meter", "url": f"/v1/billing/meters/{meter}"}
        world.notify(partition, "v1.billing.meter.error_report_triggered", related, data)


def _data(records: Sequence[Json], samples: int, now: int) -> Json:
    by_code: dict[str, list[Json]] = defaultdict(list)
    for record in records:
        by_code[record["code"]].append(record)
    kinds = [
        {
            "code": code,
            "error_count": len(those),
            "sample_errors": [_sample(each) for each in those[:samples]],
        }
        for code, those in by_code.items()
    ]
    count = len(records)
    summary = "There is 1 invalid event" if count == 1 else f"There are {count} invalid events"
    return {
        "developer_message_summary": summary,
        "reason": {"error_count": count, "error_types": kinds},
        "validation_start": instants.written(now - WINDOW_SECONDS),
        "validation_end": instants.written(now),
    }


def _sample(record: Json) -> Json:
    # What Stripe calls the identifier is the request's idempotency key.
    identifier = record["key"] or record["identifier"]
    return {"error_message": record["message"], "request": {"identifier": identifier}}
