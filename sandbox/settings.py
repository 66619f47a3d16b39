"""What the user may choose about the sandbox, read from environment variables."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import SandboxError

DRIVER = "postgresql+psycopg://"


@dataclass(frozen=True)
class Settings:
    """`database_url` and `redis_url` are None where an embedded server is wanted."""

    home: Path
    port: int
    web_concurrency: str
    database_url: str | None
    redis_url: str | None
    environment: Mapping[str, str]  # what every program is given besides

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "Settings":
        """An empty variable counts as unset: `DATABASE_URL= make dev` overrules `.env`.

        Raises: SandboxError if PORT is no port.
        """
        chosen = {name: value for name, value in environment.items() if value}
        return cls(
            home=Path(chosen.get("STRIPEMETER_HOME", ".local")).expanduser().resolve(),
            port=_port(chosen.get("PORT", "3000")),
            web_concurrency=chosen.get("WEB_CONCURRENCY", "2"),
            database_url=_with_driver(chosen.get("DATABASE_URL")),
            redis_url=chosen.get("REDIS_URL"),
            environment=environment,
        )


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise SandboxError(f"PORT must be a whole number from 1 to 65535, not {text!r}.")
    return int(text)


def _with_driver(url: str | None) -> str | None:
    if url is None:
        return None
    for scheme in ("postgres://", "postgresql://"):
        if url.startswith(scheme):
            return DRIVER + url.removeprefix(scheme)
    return url
