"""What the stand-in knows, written through to SQLite before it answers.

The file is safe against the end of the process, SIGKILL included: what was committed is in the
system's hands. It is not made safe against a power cut, which would cost a disk's wait per request.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from sandbox.stripe.core import Json

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    place INTEGER PRIMARY KEY,
    account TEXT NOT NULL, livemode INTEGER NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL,
    body BLOB NOT NULL, UNIQUE (account, livemode, kind, id))
"""
_PUT = """
INSERT INTO objects (account, livemode, kind, id, body) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (account, livemode, kind, id) DO UPDATE SET body = excluded.body
"""
_REMOVE = "DELETE FROM objects WHERE account = ? AND livemode = ? AND kind = ? AND id = ?"


class Address(NamedTuple):
    account: str
    livemode: bool
    kind: str
    id: str


class Store:
    """One file. The caller sees to it that one thread at a time is in it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._connection.execute(_SCHEMA)

    def load(self) -> Iterator[tuple[Address, Json]]:
        """Everything in the order of its making."""
        rows = self._connection.execute(
            "SELECT account, livemode, kind, id, body FROM objects ORDER BY place"
        )
        for account, livemode, kind, id, body in rows:
            yield Address(account, bool(livemode), kind, id), msgspec.json.decode(body)

    def write(self, changes: Mapping[Address, Json | None]) -> None:
        """All of the changes or none; None removes."""
        run = self._connection.execute
        run("BEGIN")
        for address, obj in changes.items():
            if obj is None:
                run(_REMOVE, address)
            else:
                run(_PUT, (*address, msgspec.json.encode(obj)))
        run("COMMIT")

    def close(self) -> None:
        self._connection.close()
