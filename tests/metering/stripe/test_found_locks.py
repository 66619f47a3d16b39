"""Two at once: nobody waits in a circle, and nobody overwrites what another has just said."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta

from sqlalchemy import select, text
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from metering.catalog import mappings
from metering.catalog.models import MetricMapping
from metering.counters import fold
from metering.database import unit_of_work
from metering.stripe import deltas, unsent
from metering.stripe.claims import Outcome
from metering.stripe.models import Push, PushStream
from tests.metering.stripe.conftest import AT
from tests.metering.stripe.test_deltas import NOON, use
from tests.stripe_setup import Connected, FakeStripe, push_all
from tests.support import entry, put

CUSTOMERS = [f"cus_{number}" for number in range(9)]


def waiting(engine: Engine, count: int) -> None:
    """Until so many wait for a lock."""
    deadline = time.monotonic() + 20
    with engine.connect() as connection:
        while time.monotonic() < deadline:
            found = connection.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))
            if found.scalar_one() >= count:
                return
            connection.rollback()
            time.sleep(0.02)
    raise AssertionError("nobody waits")


def apart(
    pool: ThreadPoolExecutor, engine: Engine, work: Callable[[Session], None]
) -> Future[None]:
    """Work in a thread and a transaction of its own."""

    def run() -> None:
        with Session(engine) as session, unit_of_work(session):
            work(session)

    return pool.submit(run)


def test_many_refusals_and_a_fold_of_the_same_customers_end_well(
    session: Session, engine: Engine, acme: Connected
) -> None:
    for customer in CUSTOMERS:
        use(session, acme, (1, NOON), customer=customer)
    with unit_of_work(session):
        claims = deltas.claim(session, acme.tenant_id, now=AT).claims
        assert len(claims) == len(CUSTOMERS)
        unsent.mark_metric(session, acme.tenant_id, "api_calls", since=NOON, now=AT)
    more = [entry(f"more-{one}", 1, NOON, customer=one) for one in CUSTOMERS]
    put(session, acme.tenant_id, more, now=AT)
    refused = [(claim, Outcome("rejected", "no", status=400)) for claim in claims]
    with ThreadPoolExecutor(2) as pool:
        with unit_of_work(session):
            session.execute(
                text(
                    "SELECT 1 FROM unsent WHERE tenant_id = :t AND customer_ref = 'cus_1'"
                    " FOR UPDATE"
                ),
                {"t": acme.tenant_id},
            )
            folding = apart(pool, engine, lambda s: fold.fold(s, acme.tenant_id, now=AT) and None)
            waiting(engine, 1)
            settling = apart(pool, engine, lambda s: deltas.settle(s, refused, now=AT))
            waiting(engine, 2)
        folding.result(20)
        settling.result(20)
    states = session.scalars(select(Push.state).where(Push.tenant_id == acme.tenant_id)).all()
    assert set(states) == {"rejected"}


def test_a_mapping_that_is_being_changed_is_not_sent_by_until_it_is_known(
    session: Session, engine: Engine, acme: Connected
) -> None:
    """Who changes it waits for the rows that a claim looks at: the claim must not wait for it."""
    use(session, acme, (3, NOON), (4, NOON))
    mapping = session.scalars(select(MetricMapping).filter_by(tenant_id=acme.tenant_id)).one()
    with ThreadPoolExecutor(1) as pool, unit_of_work(session):
        mappings.edit(session, acme.tenant_id, mapping.mapping_id, {"aggregation": "count"}, now=AT)
        claiming = apart(
            pool, engine, lambda s: _none_claimed(deltas.claim(s, acme.tenant_id, now=AT))
        )
        claiming.result(20)
        unsent.mark_metric(session, acme.tenant_id, "api_calls", since=NOON, now=AT)
    stripe = FakeStripe()
    push_all(session, acme, stripe, now=AT + timedelta(minutes=1))
    assert stripe.total() == 2
    session.refresh(mapping)
    assert (mapping.aggregation, mapping.pushed_at is None) == ("count", False)


def _none_claimed(turn: deltas.Turn) -> None:
    assert not turn.claims


def test_a_stream_that_another_worker_works_on_is_left_alone_and_nothing_is_lost(
    session: Session, engine: Engine, acme: Connected
) -> None:
    use(session, acme, (3, NOON))
    stripe = FakeStripe()
    later = push_all(session, acme, stripe, now=AT)
    use(session, acme, (4, NOON))
    with ThreadPoolExecutor(1) as pool, unit_of_work(session):
        session.scalars(select(PushStream).filter_by(tenant_id=acme.tenant_id).with_for_update())
        apart(
            pool, engine, lambda s: _none_claimed(deltas.claim(s, acme.tenant_id, now=later))
        ).result(20)
    push_all(session, acme, stripe, now=later + timedelta(minutes=1))
    assert stripe.total() == 7


def test_rows_that_another_worker_looks_at_are_left_to_it_at_once(
    session: Session, engine: Engine, acme: Connected
) -> None:
    """A claim that asked for them again and again would never end."""
    use(session, acme, (3, NOON))
    with ThreadPoolExecutor(1) as pool, unit_of_work(session):
        session.execute(
            text("SELECT 1 FROM unsent WHERE tenant_id = :t FOR UPDATE"), {"t": acme.tenant_id}
        )
        claiming = apart(
            pool, engine, lambda s: _none_claimed(deltas.claim(s, acme.tenant_id, now=AT))
        )
        try:
            claiming.result(10)
        finally:
            session.rollback()  # else the thread that never ends would keep the test
