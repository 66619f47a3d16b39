"""An embedded Postgres, with the settings of a server that keeps other people's money."""

import signal
from functools import cached_property
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import psycopg

from sandbox import binaries, datafolder
from sandbox.accounts import Account, postgres_account
from sandbox.daemon import Daemon

# The name of a socket and of its lock: only the folder tells servers apart, not the port.
PORT = 5432
SOCKET = f".s.PGSQL.{PORT}"
USER = DATABASE = "stripemeter"

SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "shared_buffers": "256MB",
    "max_connections": "100",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_destination": "stderr",
    "logging_collector": "off",
}
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
# A power cut loses everything: for tests, which make their data anew.
FLEETING = dict.fromkeys(DURABLE, "off")


class Postgres(Daemon):
    """`durable=False` trades the data's life after a power cut for speed, in tests only."""

    name = "postgres"
    program_names = ("postgres",)
    socket_names = (SOCKET, f"{SOCKET}.lock")
    # Fast shutdown, then immediate: the latter recovers from the log at the next start.
    stop_signals: ClassVar = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0))
    start_seconds = 120.0  # after a crash the log is replayed first

    def __init__(self, home: Path, *, durable: bool = True) -> None:
        super().__init__(home)
        self.durable = durable

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://{self._address(DATABASE)}"

    @cached_property
    def folder(self) -> Path:
        self.home.mkdir(parents=True, exist_ok=True)
        version = binaries.major_version(self._binaries / "postgres")
        return datafolder.locate(self.home, self._account, version)

    def discard(self) -> None:
        """Stop, and delete the data wherever it is: for tests."""
        self.stop()
        datafolder.remove(self.home, self.folder)

    @cached_property
    def _account(self) -> Account:
        return postgres_account()

    @cached_property
    def _binaries(self) -> Path:
        return binaries.postgres_binaries_for(self._account)

    def _prepare(self) -> None:
        if not self.folder.exists():
            datafolder.create(self.folder, self._binaries, USER, self._account, sync=self.durable)
        # Its process is gone, or is no server on this folder: see `_end_leftovers`. Postgres
        # would take any process that has got the same id for itself, and refuse to start.
        (self.folder / "postmaster.pid").unlink(missing_ok=True)

    def _command(self) -> list[str | Path]:
        settings = SETTINGS | (DURABLE if self.durable else FLEETING)
        settings["unix_socket_directories"] = str(self._sockets)
        if self._compresses_with("lz4"):
            settings["wal_compression"] = "lz4"
        command: list[str | Path] = [self._binaries / "postgres", "-D", self.folder]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        return command

    def _compresses_with(self, method: str) -> bool:
        # Printing a setting checks it, without starting anything.
        question = ["-C", "wal_compression", "-c", f"wal_compression={method}"]
        postgres = self._binaries / "postgres"
        return self._account.run([postgres, "-D", self.folder, *question]).returncode == 0

    def _answers(self) -> bool:
        try:
            with psycopg.connect(
                f"postgresql://{self._address('postgres')}", autocommit=True, connect_timeout=5
            ) as connection:
                self._create_database(connection)
        except psycopg.OperationalError:
            return False
        return True

    def _create_database(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
        if found.fetchone() is None:
            connection.execute(f"CREATE DATABASE {DATABASE}")

    def _address(self, database: str) -> str:
        # The port is named because PGPORT would otherwise decide.
        return f"{USER}@/{database}?host={quote(str(self._sockets))}&port={PORT}"
