import contextlib
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import state

# Programs that a test starts elsewhere find what the test itself finds.
PYTHONPATH = os.pathsep.join(str(Path(folder).resolve()) for folder in sys.path)


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A folder which the stand-in of root may enter, unlike pytest's own `tmp_path`."""
    folder = Path(tempfile.mkdtemp(prefix="stripemeter-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def home() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder / "home"


@pytest.fixture(scope="module")
def used_home() -> Iterator[Path]:
    """A state folder that the tests of a module share, for the time that `initdb` takes."""
    with open_folder() as folder:
        yield folder / "home"


@pytest.fixture
def closed_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder below a closed one, and root's own place out of the machine's way."""
    monkeypatch.setattr(state, "PLACE", home.parent / "state")
    closed = home.parent / "closed"
    closed.mkdir(mode=0o700)
    return closed / "home"


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
    return number
