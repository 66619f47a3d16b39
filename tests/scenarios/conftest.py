"""One stack for all lives; each test starts the processes it needs and leaves it healthy."""

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenarios.stack import Stack


@pytest.fixture(scope="session")
def running() -> Iterator[Stack]:
    home = Path(tempfile.mkdtemp(prefix="stripemeter-lives-"))
    home.chmod(0o755)
    stack = Stack(home)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()
        shutil.rmtree(home)


@pytest.fixture
def stack(running: Stack) -> Iterator[Stack]:
    """The stack with its web up and nothing else running."""
    yield running
    for name in list(running.processes):
        if name != "web":
            running.end(name)
    running._resume_valkey()
    running.valkey.start()
    running.postgres.start()
    if "web" not in running.processes:
        running.start_web()


@pytest.fixture
def acme() -> str:
    """A fresh tenant's id: the sandbox makes a tenant when it is first named."""
    return f"acme-{uuid.uuid4().hex[:12]}"
