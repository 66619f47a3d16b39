"""The folders of sockets: short enough for the kernel, and ours alone."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from sandbox import sockets
from sandbox.accounts import Account
from sandbox.errors import SandboxError
from sandbox.servers import Postgres, Valkey

US = Account.ours()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = sockets.folder_for(tmp_path, US)
    yield folder
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        folder.rmdir()


def test_the_address_is_short_however_deep_the_home_is(home: Path) -> None:
    deep = home.joinpath(*["a-folder-of-a-long-name"] * 12)
    assert len(os.fsencode(Postgres(deep)._sockets / ".s.PGSQL.5432")) <= 103
    with Valkey(deep) as url, redis.Redis.from_url(url) as client:
        assert client.ping()


def test_each_home_has_a_folder_of_its_own() -> None:
    assert sockets.folder_for(Path("/a"), US) != sockets.folder_for(Path("/b"), US)


def test_a_long_temporary_folder_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("t" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    assert sockets.folder_for(tmp_path, US).parent == Path("/tmp")


def test_the_folder_is_private_and_can_be_claimed_twice(folder: Path) -> None:
    sockets.claim(folder, US)
    sockets.claim(folder, US)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_an_open_folder_is_not_trusted(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(SandboxError, match="is not a private folder"):
        sockets.claim(folder, US)


def test_a_link_is_not_trusted(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir(mode=0o700)
    folder.symlink_to(target)
    with pytest.raises(SandboxError, match="is not a private folder"):
        sockets.claim(folder, US)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of somebody else's")
def test_a_folder_of_another_user_is_not_trusted(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    with pytest.raises(SandboxError, match="is not a private folder"):
        sockets.claim(folder, US)
    (folder / "valkey.sock").touch()
    sockets.clear(folder, US, "valkey.sock")  # nor is anything in it removed
    assert (folder / "valkey.sock").exists()
    (folder / "valkey.sock").unlink()
