"""The back-test's job: goes on where it was killed, hands over in time, and is found when lost."""

import pydoc
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session

from jobs import backtest as job
from jobs import runtime, schedule, sweep
from metering.billing import backtest
from metering.database import unit_of_work
from tests.backtests import answered, ask, results, some_usage, use
from webapp import queues

pytestmark = pytest.mark.usefixtures("process_environment")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtest, "CHUNK_CUSTOMERS", 7)


@pytest.fixture
def hinted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is enqueued."""
    found: list[tuple[str, str]] = []
    monkeypatch.setattr(
        type(runtime.hints()), "answer_backtest", lambda _, *which: found.append(which)
    )
    return found


def killed_after(chunks: int) -> Callable[..., bool]:
    real, done = backtest.advance, 0

    def advance(*given: Any, **named: Any) -> bool:
        nonlocal done
        done += 1
        if done > chunks:
            raise KeyboardInterrupt
        return real(*given, **named)

    return advance


def test_a_killed_job_is_taken_up_where_it_was(
    session: Session, tenant: str, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = some_usage(40)
    use(session, tenant, usage)
    asked = ask(session, tenant, now)
    for chunks in (0, 1, 2):
        with monkeypatch.context() as patched:
            patched.setattr(backtest, "advance", killed_after(chunks))
            with pytest.raises(KeyboardInterrupt):
                job.run(tenant, asked.id)
    assert len(results(session, tenant, asked.id)) == 21
    job.run(tenant, asked.id)
    job.run(tenant, asked.id)  # a hint that came twice
    assert results(session, tenant, asked.id) == answered(usage)
    session.expire_all()
    assert backtest.get(session, tenant, asked.id).state == "done"


def test_the_web_names_the_job_that_there_is() -> None:
    assert pydoc.locate(queues.BACKTEST_JOB) is job.run


def test_a_long_one_goes_on_in_another_job(
    session: Session,
    tenant: str,
    now: datetime,
    hinted: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(session, tenant, some_usage(20))
    asked = ask(session, tenant, now)
    monkeypatch.setattr(job, "RUN_SECONDS", -1.0)
    job.run(tenant, asked.id)
    assert hinted == [(tenant, asked.id)]


def test_the_clock_finds_what_redis_lost(
    session: Session, tenant: str, now: datetime, hinted: list[tuple[str, str]]
) -> None:
    use(session, tenant, {})
    lost = ask(session, tenant, now - timedelta(minutes=1))
    fresh = ask(session, tenant, now)
    sweep.resume_backtests()
    assert (tenant, lost.id) in hinted
    assert (tenant, fresh.id) not in hinted
    assert sweep.resume_backtests in [task.run for task in schedule.tasks()]
    with unit_of_work(session):
        backtest.cancel(session, tenant, lost.id, now=now)
