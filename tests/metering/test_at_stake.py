"""What is said of the totals and the money is what each decision, tried, does."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from metering.billing import at_stake
from metering.catalog import mappings, metrics
from metering.counters import adjustments, deciding, voids
from metering.counters.adjustments import Filter, Wanted
from metering.database import unit_of_work
from metering.errors import ConflictError
from pricing.price import from_config
from tests.stripe_setup import TIERED
from tests.support import entry, fold_all, put

NOW, LATE = datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 10, 10, tzinfo=UTC)


@pytest.fixture(params=["sum", "count", "max", "last", "unique"])
def waits(session: Session, tenant: str, request: pytest.FixtureRequest) -> str:
    """Late events, of which one is void, and two deltas; the tenant."""
    price = from_config(TIERED)
    with unit_of_work(session):
        changes = {"aggregation": request.param, "unique_enabled": True}
        metrics.edit(session, tenant, "api_calls", changes, now=LATE)
        mappings.create(
            session, tenant, mappings.id_of(None),
            {"metric": "api_calls", "effective_from": LATE - timedelta(20), "price": price,
             "currency": "usd"},
            now=LATE - timedelta(21),
        )  # fmt: skip
    used = [entry(f"e{n}", 60 + n, LATE, resource=f"r{n}") for n in range(2)]
    put(session, tenant, used, now=LATE)
    fold_all(session, tenant)
    with unit_of_work(session):
        late = {"late_policy": "age", "lateness_seconds": 0}
        metrics.edit(session, tenant, "api_calls", late, now=NOW)
    hour = timedelta(hours=1)
    late_ones = [entry(f"l{n}", 90 + n, LATE + n * hour, resource=f"r{n}") for n in range(4)]
    put(session, tenant, late_ones, now=NOW)
    fold_all(session, tenant)
    with unit_of_work(session):
        voids.void(session, tenant, "l3", reason="r", actor="me", now=NOW)
        for delta in (120, -1):
            wanted = Wanted("cus_1", "api_calls", Decimal(delta), "correction", LATE)
            made = adjustments.id_of(None)
            adjustments.create(session, tenant, made, wanted, actor="me", now=NOW)
    return tenant


def test_the_list_agrees_with_each_by_itself(session: Session, waits: str) -> None:
    found = adjustments.page(session, waits, Filter())
    assert len(found) == 3
    stakes = at_stake.of_pending(session, waits, found, now=NOW)
    for one in found:
        own = at_stake.of(session, waits, one, now=NOW).own
        tried = deciding.effect(session, waits, one.adjustment_id, now=NOW)
        session.rollback()
        assert own.effect == tried
        assert stakes[one.adjustment_id] == own.money
        with unit_of_work(session):
            deciding.approve(session, waits, one.adjustment_id, actor="me", now=NOW)
        after = at_stake.of(session, waits, one, now=NOW).own
        assert (after.effect, after.money) == (own.effect, own.money)
        assert deciding.effect(session, waits, one.adjustment_id, now=NOW) == tried
        session.rollback()
        with unit_of_work(session):
            deciding.revert(session, waits, one.adjustment_id, actor="me", now=NOW)


def test_carried_forward_it_costs_in_the_current_period(session: Session, waits: str) -> None:
    [one] = adjustments.page(session, waits, Filter(kind="events"))
    before = at_stake.of(session, waits, one, now=NOW)
    with unit_of_work(session):
        deciding.approve(
            session, waits, one.adjustment_id, disposition="carry_forward", actor="me", now=NOW
        )
    after = at_stake.of(session, waits, one, now=NOW)
    assert after == before
    assert after.carried.effect.difference == after.own.effect.difference
    # A month later it counts where it did.
    later = at_stake.of(session, waits, one, now=NOW + timedelta(days=31))
    assert later.carried == after.carried


def test_without_a_price_it_says_so(session: Session, tenant: str) -> None:
    with unit_of_work(session):
        metrics.edit(session, tenant, "api_calls", {}, now=NOW)
        wanted = Wanted("cus_1", "api_calls", Decimal(5), "correction")
        adjustments.create(session, tenant, "adj_1", wanted, actor="me", now=NOW)
    found = adjustments.page(session, tenant, Filter())
    [stake] = at_stake.of_pending(session, tenant, found, now=NOW).values()
    assert (stake.difference, stake.currency) == (None, None)
    assert stake.why_not
    assert at_stake.of(session, tenant, found[0], now=NOW).own.money == stake
    assert at_stake.together([stake]) == []


def test_looking_at_one_and_deciding_it_never_wait_for_each_other(
    session: Session, engine: Engine, waits: str
) -> None:
    [one] = adjustments.page(session, waits, Filter(kind="events"))
    session.rollback()
    with Session(engine) as reader, Session(engine) as decider:
        adjustments.get(reader, waits, one.adjustment_id)
        deciding.effect(reader, waits, one.adjustment_id, aggregation="last", now=NOW)
        # The reader's transaction goes on, while its page is made.
        decider.execute(text("SET LOCAL lock_timeout = '1s'"))
        deciding.approve(decider, waits, one.adjustment_id, actor="me", now=NOW)
        decider.rollback()


def test_the_same_name_for_another_period_is_refused(session: Session, waits: str) -> None:
    earlier = NOW - timedelta(days=31)
    for instant in (NOW, NOW, None, earlier):
        wanted = Wanted("cus_1", "api_calls", Decimal(5), "correction", instant)
        if instant is earlier:
            with pytest.raises(ConflictError, match="another adjustment"):
                adjustments.create(session, waits, "adj_1", wanted, actor="me", now=NOW)
        else:
            adjustments.create(session, waits, "adj_1", wanted, actor="me", now=NOW)
    session.rollback()
