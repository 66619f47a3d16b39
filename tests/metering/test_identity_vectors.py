"""The derived keys on which the server and everyone else who derives them must agree."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from metering.ledger.identity import derive_key

VECTORS = Path(__file__).parents[2] / "sdks" / "vectors.json"
Vector = dict[str, Any]


def vectors() -> list[Vector]:
    found: list[Vector] = json.loads(VECTORS.read_text(encoding="utf-8"))["vectors"]
    return found


def by_the_recipe(vector: Vector) -> str:
    """The key by the letter of the recipe, sharing nothing with the product."""
    instant = datetime.fromisoformat(vector["ts"]).astimezone(UTC)
    identity = [
        vector["tenantId"],
        vector["metric"],
        vector["customerRef"],
        vector["resourceId"],
        instant.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    ]
    text = "[" + ",".join(json.dumps(part, ensure_ascii=False) for part in identity) + "]"
    seconds = (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    return "evt_" + format(seconds, "08x") + hashlib.sha256(text.encode("utf-8")).hexdigest()[:24]


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector["case"])
def test_a_derived_key_is_the_agreed_one(vector: Vector) -> None:
    assert by_the_recipe(vector) == vector["idempotencyKey"]
    derived = derive_key(
        vector["tenantId"],
        vector["metric"],
        vector["customerRef"],
        vector["resourceId"],
        datetime.fromisoformat(vector["ts"]),
    )
    assert derived == vector["idempotencyKey"]


def test_only_the_same_instant_at_another_offset_shares_a_key() -> None:
    keys = [vector["idempotencyKey"] for vector in vectors()]
    assert len(keys) >= 15
    assert len(keys) - len(set(keys)) == 1
    assert all(len(key) == 36 for key in keys)
