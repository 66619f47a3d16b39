"""An embedded Valkey: the queue, which is only a hint of what Postgres knows."""

import signal
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import redis

from sandbox import binaries
from sandbox.daemon import Daemon

SOCKET = "valkey.sock"


class Valkey(Daemon):
    """Keeps nothing over a restart: whatever a lost job would have done is found by the clock."""

    name = "valkey"
    program_names = ("valkey-server", "redis-server")
    socket_names = (SOCKET,)
    stop_signals: ClassVar = ((signal.SIGTERM, 10.0),)
    start_seconds = 20.0

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self._sockets / SOCKET))}"

    @property
    def folder(self) -> Path:
        return self.home / "valkey"

    def _prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def _command(self) -> list[str | Path]:
        settings: dict[str, str | Path] = {
            "port": "0",
            "unixsocket": self._sockets / SOCKET,
            "unixsocketperm": "700",
            "dir": self.folder,
            "appendonly": "no",
            "save": "",
            "maxmemory-policy": "noeviction",  # a full queue must say so, not lose jobs
        }
        command: list[str | Path] = [binaries.valkey_binary()]
        for name, value in settings.items():
            command += [f"--{name}", value]
        return command

    def _answers(self) -> bool:
        with redis.Redis(unix_socket_path=str(self._sockets / SOCKET)) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False
