"""This process as a worker."""

import os
from collections.abc import Iterator

import pytest

from jobs import runtime


@pytest.fixture
def process_environment(
    database: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """This process as a worker: the jobs read their configuration from the environment."""
    variables = {"DATABASE_URL": database, "REDIS_URL": redis_url}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    runtime.config.cache_clear()
    yield {**os.environ, **variables}
    runtime._engine_of(os.getpid()).dispose()
    for cached in (runtime.config, runtime._engine_of, runtime._hints_of):
        cached.cache_clear()
