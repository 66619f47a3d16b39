"""The derived keys on which the server and everyone else who derives them must agree."""

import calendar
import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


INSTANTS = st.integers(0, 100 * 365 * 86_400 * 10**6).map(
    lambda microseconds: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
)


@given(st.lists(st.text(), min_size=3, max_size=3), st.none() | st.text(), INSTANTS)
def test_any_identity_has_the_key_of_the_plain_recipe(
    names: list[str], resource: str | None, at: datetime
) -> None:
    instant = at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    plain = json.dumps([*names, resource, instant], ensure_ascii=False, separators=(",", ":"))
    digest = hashlib.sha256(plain.encode()).hexdigest()[:24]
    seconds = calendar.timegm(at.utctimetuple())
    assert derive_key(*names, resource, at) == f"evt_{seconds:08x}{digest}"
