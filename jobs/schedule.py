"""The clock: `python -m jobs.schedule` runs what must happen whether or not anyone hints at it.

Two clocks at once do no harm: everything they call is idempotent.
"""

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import redis
from sqlalchemy.exc import SQLAlchemyError

from jobs import catalogue, closing, deltas, sweep, webhooks
from jobs.runtime import config
from webapp import logs
from webapp.config import ConfigError

log = logging.getLogger(__name__)


@dataclass
class Task:
    """Something to run every so often."""

    run: Callable[[], None]
    every_seconds: float
    due_at: float = 0.0


def tasks() -> list[Task]:
    """What the clock does."""
    return [
        Task(sweep.sweep, every_seconds=5),
        Task(webhooks.sweep, every_seconds=15),
        # What waits for its segment's next turn waits as much longer as this is rare.
        Task(deltas.tick, every_seconds=0.5),
        Task(deltas.confirm_all, every_seconds=60),
        Task(catalogue.look, every_seconds=30),
        Task(closing.look, every_seconds=15),
        Task(closing.look_for_unbilled, every_seconds=60),
        Task(sweep.resume_filling, every_seconds=60),
        Task(sweep.resume_backtests, every_seconds=30),
        Task(sweep.resume_backfills, every_seconds=15),
        Task(sweep.prune, every_seconds=3600),
    ]


def tick(due: list[Task], now: float) -> None:
    """Run what is due; a task that fails is logged and tried again when it is next due."""
    for task in due:
        if task.due_at > now:
            continue
        task.due_at = now + task.every_seconds
        try:
            task.run()
        except (SQLAlchemyError, redis.RedisError, OSError) as error:
            log.error("a task of the clock failed", exc_info=error)


def main() -> None:
    """Tick until told to stop."""
    logs.configure(config().log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    due = tasks()
    log.info("clock started")
    while not stop.is_set():
        tick(due, time.monotonic())
        stop.wait(0.5)
    log.info("clock stopped")


if __name__ == "__main__":
    try:
        main()
    except ConfigError as error:
        sys.exit(str(error))
