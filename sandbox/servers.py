"""The embedded servers, for the supervisor, the tests and the benchmarks.

    with Postgres(home) as database_url, Valkey(home) as redis_url:
        ...

`url` is also known before the start. Every failure that the user can put right is a
`SandboxError` of one sentence, or ends with the last lines of the server's log.
"""

from sandbox.binaries import postgres_binaries, valkey_binary
from sandbox.errors import SandboxError
from sandbox.postgres import Postgres
from sandbox.valkey import Valkey

__all__ = ["Postgres", "SandboxError", "Valkey", "postgres_binaries", "valkey_binary"]
