"""The job that pushes: what it does besides pushing, however busy it is."""

import pytest

from jobs import deltas
from metering.stripe.confirming import Check


def test_a_tenant_that_never_falls_silent_has_its_doubts_cleared(
    process_environment: dict[str, str], tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time is up before nothing is due: the totals are read all the same."""
    asked: list[str] = []

    def due(session: object, tenant_id: str, **_: object) -> list[Check]:
        asked.append(tenant_id)
        return []

    monkeypatch.setattr(deltas.confirming, "due", due)
    monkeypatch.setattr(deltas, "RUN_SECONDS", -1.0)
    deltas.push(tenant)
    assert asked == [tenant]


def test_all_totals_that_are_wanted_are_read_and_not_only_the_first_twenty(
    process_environment: dict[str, str], tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [20, 20, 5, 0]
    monkeypatch.setattr(deltas, "confirm", lambda tenant_id: left.pop(0))
    deltas.push(tenant)
    assert left == []
