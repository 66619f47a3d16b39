"""What a worker process carries: configuration, engine and queue, each built once when needed.

Built after a fork, never before it: a connection must not be shared between processes.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache

from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from metering.database import make_engine, unit_of_work
from webapp import clock
from webapp import config as configuration
from webapp.config import Config
from webapp.queues import Hints


@cache
def config() -> Config:
    """The process's configuration."""
    loaded = configuration.load()
    clock.follow(loaded.clock_file)
    return loaded


@cache
def _engine_of(pid: int) -> Engine:
    return make_engine(config().database_url, pool_size=2, application_name="stripemeter worker")


@cache
def _hints_of(pid: int) -> Hints:
    return Hints(config().redis_url, verify_tls=config().redis_tls_verify)


def hints() -> Hints:
    """The way to enqueue further work."""
    return _hints_of(os.getpid())


@contextmanager
def step() -> Iterator[tuple[Session, datetime]]:
    """One transaction of a job, with the instant at which it began."""
    with Session(_engine_of(os.getpid())) as session, unit_of_work(session):
        yield session, clock.wall()
