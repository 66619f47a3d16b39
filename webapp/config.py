"""The one reader of the environment (with the sandbox's launcher): a frozen object, built once.

Everything that is missing or malformed is named at once, so that a deployment is mended in one
round.
"""

import atexit
import os
import shutil
import tempfile
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from dotenv import load_dotenv
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

METRICS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
STRIPE = "https://api.stripe.com"
SIGNING_KEY_BYTES = 32
LOOPBACK = ("127.0.0.1", "::1", "localhost")
TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


class ConfigError(Exception):
    """Lists every variable that is missing or malformed."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("The configuration is not usable:\n  - " + "\n  - ".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Config:
    """How this process runs.

    sandbox: everything on one machine, open without a key on loopback.
    trusted_proxies: how many proxies in front of us may be believed on who the client is.
    clock_file: says how far the sandbox's clock was moved; see `webapp/clock.py`.
    stripe_api_base: of a stand-in for Stripe on this machine; None: Stripe itself.
    demo_url: of the sandbox's demo, for its front page to lead there.
    stripe_account:  the keys' own account, for mappings that name none.
    stripe_webhook_secret_live, …_test: one, or several divided by commas.
    stripe_limit_live, …_test: calls a second.
    lateness_hours: how long after its period's end usage counts, of metrics made from now on.
    statement_signing_key: the secret that the key of statements is made from; None: there are none.
    s3_…, aws_…: of the storage that `stripemeter backfill s3://…` reads; nothing else uses them.
    """

    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    sandbox: bool = False
    port: int = 3000
    bind_host: str = "0.0.0.0"  # a platform's router reaches us from elsewhere
    web_concurrency: int = 2
    web_threads: int = 8
    metrics_token: str | None = field(default=None, repr=False)
    trusted_proxies: int = 0
    stripe_live_key: str | None = field(default=None, repr=False)
    stripe_test_key: str | None = field(default=None, repr=False)
    stripe_webhook_secret_live: str | None = field(default=None, repr=False)
    stripe_webhook_secret_test: str | None = field(default=None, repr=False)
    stripe_account: str | None = None
    stripe_api_base: str | None = None
    stripe_limit_live: int = 1000
    stripe_limit_test: int = 25
    lateness_hours: int = 48
    log_level: str = "INFO"
    # Off only where the platform's Redis shows a certificate of its own making.
    redis_tls_verify: bool = True
    # Several processes write their counts to files that /metrics adds up.
    metrics_shared: bool = False
    clock_file: Path | None = None
    demo_url: str | None = None
    statement_signing_key: bytes | None = field(default=None, repr=False)
    s3_endpoint_url: str | None = None
    s3_region: str | None = None
    aws_access_key_id: str | None = field(default=None, repr=False)
    aws_secret_access_key: str | None = field(default=None, repr=False)

    @property
    def lateness_seconds(self) -> int:
        return self.lateness_hours * 3600


def load(environ: Mapping[str, str] | None = None, *, needs_redis: bool = True) -> Config:
    """Read the environment. Raises ConfigError naming everything that is wrong with it.

    needs_redis: False for commands that only talk to the database.
    """
    reader = _Reader(os.environ if environ is None else environ)
    return reader.config(needs_redis=needs_redis)


def read_files() -> None:
    """Let `.env` fill in what the environment does not set, for the command line; and then a
    sandbox that runs in this folder, which writes down where its servers are."""
    load_dotenv(".env")
    load_dotenv(Path(os.environ.get("STRIPEMETER_HOME") or ".local") / "run" / "servers.env")


def share_metrics() -> None:
    """Give this process and its forks a directory to count in, unless they have one.

    Called before prometheus_client is imported, which decides then how it counts.
    """
    if METRICS_DIRECTORY in os.environ:
        return
    directory, owner = tempfile.mkdtemp(prefix="stripemeter-metrics-"), os.getpid()
    os.environ[METRICS_DIRECTORY] = directory

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(directory, ignore_errors=True)

    atexit.register(remove)


def database_url(url: str) -> str:
    """A platform's `postgres://` as SQLAlchemy wants it, with the psycopg driver."""
    for prefix in ("postgres://", "postgresql://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    return url


def _is_url(url: str) -> bool:
    try:
        make_url(url)
    except (ArgumentError, ValueError):
        return False
    return True


def _is_on_loopback(base: str) -> bool:
    """True for an address of scheme, host and port, and of nothing else, on this machine."""
    try:
        parts = urlsplit(base)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return (
        has_port
        and parts.scheme in ("http", "https")
        and parts.hostname in LOOPBACK
        and base == f"{parts.scheme}://{parts.netloc}"
        and "@" not in parts.netloc
    )


class _Reader:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[str] = []

    def config(self, *, needs_redis: bool) -> Config:
        config = Config(
            database_url=self._database_url(),
            redis_url=self._redis_url(needed=needs_redis),
            sandbox=self._flag("STRIPEMETER_SANDBOX"),
            port=self._number("PORT", 3000, 1, 65535),
            bind_host=self.environ.get("BIND_HOST", "0.0.0.0"),
            web_concurrency=self._number("WEB_CONCURRENCY", 2, 1, 64),
            web_threads=self._number("WEB_THREADS", 8, 1, 64),
            metrics_token=self.environ.get("METRICS_TOKEN") or None,
            trusted_proxies=self._number("TRUSTED_PROXIES", 0, 0, 10),
            stripe_live_key=self._stripe_key("STRIPE_LIVE_KEY", "live"),
            stripe_test_key=self._stripe_key("STRIPE_TEST_KEY", "test"),
            stripe_webhook_secret_live=self._webhook_secret("STRIPE_WEBHOOK_SECRET_LIVE"),
            stripe_webhook_secret_test=self._webhook_secret("STRIPE_WEBHOOK_SECRET_TEST"),
            stripe_account=self._stripe_account(),
            stripe_api_base=self._stripe_api_base(),
            stripe_limit_live=self._number("STRIPE_LIMIT_LIVE", 1000, 1, 1_000_000),
            stripe_limit_test=self._number("STRIPE_LIMIT_TEST", 25, 1, 1_000_000),
            lateness_hours=self._number("LATE_EVENT_WINDOW_HOURS", 48, 0, 8760),
            log_level=self._level(),
            redis_tls_verify=self._flag("REDIS_TLS_VERIFY", default=True),
            metrics_shared=METRICS_DIRECTORY in self.environ,
            clock_file=self._clock_file(),
            demo_url=self._demo_url(),
            statement_signing_key=self._signing_key(),
            s3_endpoint_url=self._s3_endpoint_url(),
            s3_region=self.environ.get("S3_REGION", "").strip() or None,
            aws_access_key_id=self.environ.get("AWS_ACCESS_KEY_ID", "").strip() or None,
            aws_secret_access_key=self.environ.get("AWS_SECRET_ACCESS_KEY", "").strip() or None,
        )
        if self.problems:
            raise ConfigError(self.problems)
        return config

    def _database_url(self) -> str:
        url = database_url(self.environ.get("DATABASE_URL", ""))
        if not url:
            self.problems.append("DATABASE_URL is missing (postgresql://user:password@host/name)")
        elif not url.startswith("postgresql+psycopg://"):
            self.problems.append("DATABASE_URL must begin with postgresql:// or postgres://")
        elif not _is_url(url):
            self.problems.append(
                "DATABASE_URL cannot be read as postgresql://user:password@host/name"
            )
        return url

    def _redis_url(self, *, needed: bool) -> str:
        url = self.environ.get("REDIS_URL", "")
        if not url and not needed:
            return ""
        if not url:
            self.problems.append("REDIS_URL is missing (redis://host:6379/0)")
        elif not url.startswith(("redis://", "rediss://", "unix://")):
            self.problems.append("REDIS_URL must begin with redis://, rediss:// or unix://")
        return url

    def _flag(self, name: str, *, default: bool = False) -> bool:
        value = self.environ.get(name, "").strip().lower()
        if not value:
            return default
        if value not in TRUE + FALSE:
            self.problems.append(f"{name} must be 1 or 0, not {value!r}")
        return value in TRUE

    def _number(self, name: str, default: int, least: int, most: int) -> int:
        text = self.environ.get(name, "").strip()
        if not text:
            return default
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            self.problems.append(
                f"{name} must be a whole number from {least} to {most}, not {text!r}"
            )
            return default
        return int(text)

    def _stripe_key(self, name: str, mode: str) -> str | None:
        key = self.environ.get(name, "").strip()
        if key and not key.startswith((f"sk_{mode}_", f"rk_{mode}_")):
            # The value is a secret even where it is the wrong one: it is not repeated.
            self.problems.append(f"{name} is not a {mode} key (sk_{mode}_… or rk_{mode}_…)")
        return key or None

    def _clock_file(self) -> Path | None:
        """A clock that can be moved bills people for time that has not passed: sandbox only."""
        path = self.environ.get("STRIPEMETER_CLOCK_FILE", "").strip()
        if not path:
            return None
        if self.environ.get("STRIPEMETER_SANDBOX", "").strip().lower() not in TRUE:
            self.problems.append(
                "STRIPEMETER_CLOCK_FILE moves the sandbox's clock, and this is none"
            )
        if self.environ.get("STRIPE_LIVE_KEY", "").strip():
            self.problems.append(
                "STRIPEMETER_CLOCK_FILE moves the sandbox's clock: STRIPE_LIVE_KEY must be unset"
            )
        return Path(path)

    def _webhook_secret(self, name: str) -> str | None:
        secrets = [each.strip() for each in self.environ.get(name, "").split(",") if each.strip()]
        if not all(each.startswith("whsec_") for each in secrets):
            self.problems.append(f"{name} is not a webhook secret (whsec_…)")
        return ",".join(secrets) or None

    def _stripe_account(self) -> str | None:
        account = self.environ.get("STRIPE_ACCOUNT", "").strip()
        if account and not account.startswith("acct_"):
            self.problems.append("STRIPE_ACCOUNT is not the id of an account (acct_…)")
        return account or None

    def _stripe_api_base(self) -> str | None:
        """A stand-in's address. Keys go wherever it points: it must be this machine."""
        base = self.environ.get("STRIPE_API_BASE", "").strip().rstrip("/")
        if base in ("", STRIPE):
            return None
        if not _is_on_loopback(base):
            self.problems.append(
                f"STRIPE_API_BASE must be {STRIPE}, or a stand-in on this machine "
                "(http://127.0.0.1:port)"
            )
        elif self.environ.get("STRIPE_LIVE_KEY", "").strip():
            self.problems.append("STRIPE_API_BASE names a stand-in: STRIPE_LIVE_KEY must be unset")
        return base

    def _signing_key(self) -> bytes | None:
        """In base64, or in hex as platforms make secrets."""
        told = self.environ.get("STATEMENT_SIGNING_KEY", "").strip()
        if not told:
            return None
        try:
            secret = bytes.fromhex(told) if len(told) == 64 else b64decode(told, validate=True)
        except ValueError:
            secret = b""
        if len(secret) != SIGNING_KEY_BYTES:
            self.problems.append(
                f"STATEMENT_SIGNING_KEY must be {SIGNING_KEY_BYTES} bytes in base64"
                " (`openssl rand -base64 32`)"
            )
        return secret

    def _demo_url(self) -> str | None:
        url = self.environ.get("STRIPEMETER_DEMO_URL", "").strip()
        if url and not _is_on_loopback(url):
            self.problems.append(
                "STRIPEMETER_DEMO_URL must be on this machine (http://localhost:…)"
            )
        return url or None

    def _s3_endpoint_url(self) -> str | None:
        url = self.environ.get("S3_ENDPOINT_URL", "").strip().rstrip("/")
        if not url:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path:
            self.problems.append(
                "S3_ENDPOINT_URL must be the storage's address without a path (https://host:port)"
            )
        return url

    def _level(self) -> str:
        level = self.environ.get("LOG_LEVEL", "INFO").strip().upper()
        if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            self.problems.append("LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR")
        return level
