"""The job that pushes: what it does besides pushing, however busy it is."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from jobs import deltas
from metering.catalog import metrics
from metering.database import unit_of_work
from metering.stripe import rollover, unsent
from metering.stripe.confirming import Check
from tests.stripe_setup import FakeStripe, add_mapping, add_meter, connect, push_all
from tests.support import entry, fold_all, put


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


def test_gauges_are_carried_over_stretch_by_stretch_and_only_those_that_stand(
    session: Session, process_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    hour = now.replace(minute=0, second=0, microsecond=0)
    acme = connect(session, now=now)
    add_meter(session, acme, "seats")
    add_mapping(session, acme, "seats", aggregation="last")
    with unit_of_work(session):
        metrics.edit(session, acme.tenant_id, "seats", {"carry_over": True}, now=now)
    before = hour.replace(day=1) - timedelta(days=1)
    events = [
        entry(f"e{number}", number, before, metric="seats", customer=f"cus_{number}")
        for number in range(6)
    ]
    put(session, acme.tenant_id, events, now=before)
    fold_all(session, acme.tenant_id)
    stripe = FakeStripe()
    later = push_all(session, acme, stripe, now=datetime.now(UTC))
    monkeypatch.setattr(rollover, "STRETCH", 2)
    deltas.confirm_all()
    push_all(session, acme, stripe, now=later + timedelta(minutes=1))
    totals = {c: stripe.total(c, "seats") for c in (f"cus_{number}" for number in range(6))}
    assert totals == {f"cus_{number}": 2 * number for number in range(6)}


def test_one_tenants_trouble_is_not_the_next_ones() -> None:
    done: list[str] = []

    def work(tenant_id: str) -> None:
        if tenant_id == "broken":
            raise OperationalError("SELECT", {}, Exception("no"))
        done.append(tenant_id)

    deltas._of_each(["a", "broken", "b"], work)
    assert done == ["a", "b"]


def test_all_totals_that_are_wanted_are_read_and_not_only_the_first_twenty(
    process_environment: dict[str, str], tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [20, 20, 5, 0]
    monkeypatch.setattr(deltas, "confirm", lambda tenant_id: left.pop(0))
    deltas.push(tenant)
    assert left == []


@pytest.mark.parametrize(("streams", "seconds"), [(1, 10), (175, 10), (350, 20), (1000, 57.1)])
def test_the_more_streams_are_busy_the_rarer_each_is_pushed(
    session: Session,
    process_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    streams: int,
    seconds: float,
) -> None:
    """max(10 s, streams / 0.7 of the limit), for those of the last ten minutes, each mode apart."""
    monkeypatch.setattr(
        deltas.unsent, "busy_streams", lambda session, tenant_id, *, now: {"test": streams}
    )
    cadence = deltas._Cadence("acme")
    assert cadence("test", "acct_1").total_seconds() == pytest.approx(seconds, abs=0.1)
    assert cadence("live", "acct_1") == timedelta(seconds=10)


def test_only_streams_of_the_last_ten_minutes_are_busy(session: Session, now: datetime) -> None:
    acme = connect(session, now=now)
    add_meter(session, acme, "api_calls")
    add_mapping(session, acme)
    hour = now.replace(minute=0, second=0, microsecond=0)
    used = [entry(customer, 1, hour, customer=customer) for customer in ("cus_1", "cus_2")]
    put(session, acme.tenant_id, used, now=now)
    fold_all(session, acme.tenant_id)
    later = push_all(session, acme, FakeStripe(), now=datetime.now(UTC))
    assert unsent.busy_streams(session, acme.tenant_id, now=later) == {"live": 2}
    assert unsent.busy_streams(session, acme.tenant_id, now=later + timedelta(minutes=11)) == {}


def test_what_is_in_doubt_is_asked_about_at_once_and_all_of_it_now_and_then(
    process_environment: dict[str, str], tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def due(session: object, tenant_id: str, *, only_doubtful: bool, **_: object) -> list[Check]:
        asked.append(only_doubtful)
        return []

    monkeypatch.setattr(deltas.confirming, "due", due)
    deltas.confirm(tenant)
    deltas.confirm(tenant)
    monkeypatch.setattr(deltas, "_confirm_again", {})
    deltas.confirm(tenant)
    assert asked == [False, True, False]
