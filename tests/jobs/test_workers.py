"""Worker, clock and their processes, as an operator sees them."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from jobs import counters as fold_jobs
from jobs import runtime, schedule, sweep
from metering import installation
from tests.scenarios.stack import eventually
from tests.support import counters, entry, put, scalar


def test_a_fold_job_drains_its_shard(
    process_environment: dict[str, str], session: Session, tenant: str
) -> None:
    put(session, tenant, [entry(f"k{i}") for i in range(30)])
    fold_jobs.fold_shard(installation.shard_of(tenant))
    assert scalar(session, "SELECT count(*) FROM unfolded WHERE tenant_id = :t", t=tenant) == 0
    assert [value[0] for value in counters(session, tenant).values()] == [30]


def test_a_fold_job_that_runs_out_of_time_says_that_work_is_left(
    process_environment: dict[str, str],
    session: Session,
    tenant: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(session, tenant, [entry("a")])
    monkeypatch.setattr(fold_jobs, "RUN_SECONDS", -1.0)
    assert fold_jobs.drain(installation.shard_of(tenant)) == (0, True)


def test_the_sweep_finds_what_no_hint_announced(
    process_environment: dict[str, str],
    session: Session,
    tenant: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(session, tenant, [entry("a")])
    woken: list[int] = []
    monkeypatch.setattr(runtime.hints(), "enqueue_fold", lambda shard: woken.append(shard) or True)
    sweep.sweep()
    assert installation.shard_of(tenant) in woken


def test_a_failing_task_does_not_stop_the_clock(caplog: pytest.LogCaptureFixture) -> None:
    ran: list[str] = []

    def fail() -> None:
        raise OSError("the disk is on fire")

    due = [
        schedule.Task(fail, every_seconds=5),
        schedule.Task(lambda: ran.append("after"), every_seconds=5),
    ]
    for now in (100.0, 101.0, 105.0):
        schedule.tick(due, now)
    assert ran == ["after", "after"]
    assert "the disk is on fire" in caplog.text


def test_every_tenant_belongs_to_one_shard_for_ever() -> None:
    # Fixed by value: another hash after an upgrade would only move work, but silently.
    assert [installation.shard_of(t) for t in ("acme", "your-tenant-id", "ü")] == [6, 5, 5]


def test_the_worker_keeps_one_process_a_kind_and_leaves_none_behind(
    process_environment: dict[str, str], repository: Path, client: FlaskClient
) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-m", "jobs.worker"],
        cwd=repository,
        env=process_environment,
        stderr=subprocess.DEVNULL,
    )
    try:
        family = psutil.Process(worker.pid)
        kinds = eventually(lambda: _kinds(family) if len(_kinds(family)) == 3 else None, "three")
        assert set(kinds) == {"counters", "stripe", "bulk"}
        kinds["bulk"].kill()
        replaced = eventually(
            lambda: (k := _kinds(family).get("bulk")) and k.pid != kinds["bulk"].pid, "a new one"
        )
        assert replaced
        time.sleep(3)  # until each has begun to work, where a stop is a stop and not a death
        children = family.children(recursive=True)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
        assert not [child for child in children if child.is_running()]
    finally:
        worker.kill()
        worker.wait()


def test_an_orphaned_worker_ends_itself(
    process_environment: dict[str, str], repository: Path
) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-m", "jobs.worker"],
        cwd=repository,
        env=process_environment,
        stderr=subprocess.DEVNULL,
    )
    family = psutil.Process(worker.pid)
    eventually(lambda: len(_kinds(family)) == 3, "three kinds")
    time.sleep(3)
    children = family.children(recursive=True)
    worker.kill()
    worker.wait()
    eventually(lambda: not [child for child in children if _lives(child)], "all are gone", 30)


def test_an_unknown_kind_is_named(process_environment: dict[str, str], repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobs.worker", "sums"],
        cwd=repository,
        env=process_environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no kind of worker 'sums'; kinds are counters, stripe, bulk" in done.stderr


def _kinds(family: psutil.Process) -> dict[str, psutil.Process]:
    found = {}
    for child in family.children():
        try:
            arguments = child.cmdline()
        except psutil.Error:
            continue
        found |= dict.fromkeys({"counters", "stripe", "bulk"} & set(arguments), child)
    return found


def _lives(process: psutil.Process) -> bool:
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
