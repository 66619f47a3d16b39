"""The backfill's job: goes on where it was killed, hands over in time, and is found when lost."""

import pydoc
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session

from jobs import backfill as job
from jobs import runtime, schedule, sweep
from metering.database import unit_of_work
from metering.ledger import append, uploads
from metering.ledger.backfill import Reader
from tests.backfills import counts, csv_of, found, parts_left, received
from tests.support import counters, fold_all, scalar
from webapp import queues

pytestmark = pytest.mark.usefixtures("process_environment")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PART_BYTES", 700)


@pytest.fixture
def hinted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is enqueued."""
    noted: list[tuple[str, str]] = []
    monkeypatch.setattr(
        type(runtime.hints()), "read_backfill", lambda _, *which: noted.append(which)
    )
    return noted


def test_a_job_killed_anywhere_counts_nothing_twice(
    session: Session, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backfill_id = received(session, tenant, csv_of(300))
    real, steps = append.append, 0

    def killed(*given: Any, **named: Any) -> Any:
        """Before a chunk is stored, after it, and after a few more."""
        nonlocal steps
        steps += 1
        if steps in (1, 4):
            raise KeyboardInterrupt
        outcome = real(*given, **named)
        if steps in (3, 8):
            raise KeyboardInterrupt
        return outcome

    monkeypatch.setattr(append, "append", killed)
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            job.run(tenant, backfill_id)
    job.run(tenant, backfill_id)
    job.run(tenant, backfill_id)  # a hint that came twice
    done = found(session, tenant, backfill_id)
    assert (done.state, counts(done), done.lines_done) == ("done", (300, 0, 0), 301)
    assert scalar(session, "SELECT count(*) FROM events WHERE tenant_id = :t", t=tenant) == 300
    fold_all(session, tenant)
    assert sum(row[1] for row in counters(session, tenant).values()) == 300


def test_the_web_names_the_job_that_there_is() -> None:
    assert pydoc.locate(queues.BACKFILL_JOB) is job.run


def test_a_long_one_goes_on_in_another_job(
    session: Session, tenant: str, hinted: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    backfill_id = received(session, tenant, csv_of(300))
    monkeypatch.setattr(job, "RUN_SECONDS", -1.0)
    job.run(tenant, backfill_id)
    assert hinted == [(tenant, backfill_id)]
    assert found(session, tenant, backfill_id).state == "running"


def test_the_clock_finds_what_redis_lost(
    session: Session, tenant: str, now: datetime, hinted: list[tuple[str, str]]
) -> None:
    backfill_id = received(session, tenant, csv_of(3))
    assert sweep.resume_backfills in [task.run for task in schedule.tasks()]
    sweep.resume_backfills()
    assert (tenant, backfill_id) not in hinted, "a job may be on its way"
    found(session, tenant, backfill_id).touched_at = now - timedelta(seconds=16)
    session.commit()
    sweep.resume_backfills()
    assert (tenant, backfill_id) in hinted
    job.run(tenant, backfill_id)
    hinted.clear()
    sweep.resume_backfills()
    assert (tenant, backfill_id) not in hinted


def test_counters_are_woken_after_each_chunk(
    session: Session, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[int] = []
    backfill_id = received(session, tenant, csv_of(100))

    def wake(_: object, tenant_id: str) -> None:
        woken.append(found(session, tenant_id, backfill_id).parts_done)

    monkeypatch.setattr(type(runtime.hints()), "wake_counters", wake)
    job.run(tenant, backfill_id)
    assert len(woken) > 2
    assert woken == sorted(set(woken))


def test_a_reader_ends_its_thread(session: Session, tenant: str) -> None:
    with Reader(tenant, "none") as reader:
        assert not reader.advance(session, now=datetime.now().astimezone())
    assert reader._thread._shutdown


def test_an_upload_that_stands_still_is_noted_and_in_the_end_deleted(
    session: Session, tenant: str, now: datetime
) -> None:
    wanted = uploads.Wanted("csv", "a test")
    ids = []
    for minutes in (4, 6):
        begun = now - timedelta(minutes=minutes)
        with unit_of_work(session):
            made = uploads.create(session, tenant, wanted, actor="test", now=begun)
            uploads.append(session, tenant, made.backfill_id, 0, b"abc", now=begun)
        ids.append(made.backfill_id)
    sweep.resume_backfills()
    slow, dead = (found(session, tenant, each) for each in ids)
    assert (slow.state, dead.state) == ("receiving", "incomplete")
    assert dead.error
    assert "offset=3" in dead.error
    with unit_of_work(session):  # it was only slow
        uploads.append(session, tenant, ids[1], 3, b"def", now=now)
    found(session, tenant, ids[0]).touched_at = now - timedelta(days=8)
    session.commit()
    sweep.prune()
    assert [found(session, tenant, each).state for each in ids] == ["failed", "receiving"]
    assert [parts_left(session, tenant, each) for each in ids] == [0, 2]
