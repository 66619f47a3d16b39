"""Statements made by hand, to be tampered with."""

import io
from collections.abc import Iterable
from typing import Any

from metering.proof import checking, form, signing
from metering.proof.checking import Checked, Expected
from metering.proof.signing import SigningKey

KEY = SigningKey.derived(b"k" * 32)
FOREIGN = SigningKey.derived(b"f" * 32)
HEAD = {
    "type": "statement", "version": "1", "tenantId": "acme", "customerRef": "cus_1",
    "periodStart": "2026-11-01T00:00:00Z", "periodEnd": "2026-12-01T00:00:00Z",
    "asOf": "2026-12-02T00:00:00Z", "generatedAt": "2026-12-02T00:00:00Z",
}  # fmt: skip


def event(n: int, quantity: str, **more: Any) -> dict[str, Any]:
    """The n-th event, a minute after the one before."""
    made = {
        "type": "event", "n": n, "id": f"k{n}", "metric": "api_calls", "quantity": quantity,
        "ts": f"2026-11-10T12:{n:02d}:00Z", "recordedAt": "2026-11-10T13:00:00.5Z",
        "resourceId": f"r{n % 3}", "source": None, "status": "counted", "counts": True, **more,
    }  # fmt: skip
    return made | {"digest": form.record_digest(made)}


def adjustment(n: int, delta: str | None, **more: Any) -> dict[str, Any]:
    made = {
        "type": "adjustment", "n": n, "id": f"adj{n}", "metric": "api_calls", "kind": "delta",
        "reason": "credit", "disposition": "apply", "delta": delta, "decidedBy": "ann",
        "note": "=1+1, \"quoted\"\nand 'more' \\ of it", **more,
    }  # fmt: skip
    return made | {"digest": form.record_digest(made)}


def total(value: str, aggregation: str = "sum", **more: Any) -> dict[str, Any]:
    return {
        "type": "total", "metric": "api_calls", "aggregation": aggregation, "value": value, **more,
    }  # fmt: skip


def ten(*, value: str = "1000") -> list[dict[str, Any]]:
    """Ten events of a hundred each."""
    return [
        HEAD,
        *(event(n, "100") for n in range(1, 11)),
        total(value, amount="8.00", currency="usd"),
    ]


def seal(records: Iterable[Any], form_name: str = "ndjson", key: SigningKey = KEY) -> list[bytes]:
    """The lines, with their line breaks."""
    return list(signing.sealed(records, key, form_name))


def check(lines: Iterable[bytes], expected: Expected | None = None) -> Checked:
    return checking.check(io.BytesIO(b"".join(lines)), expected)
