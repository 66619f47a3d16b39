"""The embedded Valkey, on a real one."""

from pathlib import Path

import psutil
import pytest
import redis

from sandbox.servers import SandboxError, Valkey


def ping(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        return bool(client.ping())


def test_it_lives_through_stop_kill_and_restart(home: Path) -> None:
    server = Valkey(home)
    with server as url:
        assert url.startswith("unix:///")
        assert ping(url)
        first = server.pid

        server.kill()
        assert not psutil.pid_exists(first)
        assert ping(server.start())
        assert ping(server.restart())
        assert server.pid != first
    assert not server.running
    assert not server._sockets.exists()


def test_a_full_queue_refuses_and_nothing_is_kept_on_disk(home: Path) -> None:
    with Valkey(home) as url, redis.Redis.from_url(url, decode_responses=True) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        client.set("job", "1")
    assert list((home / "valkey").iterdir()) == []


def test_a_second_owner_is_refused(home: Path) -> None:
    with Valkey(home) as url:
        with pytest.raises(SandboxError, match="already run by another process"):
            Valkey(home).start()
        assert ping(url)
