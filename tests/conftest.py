"""Real servers for every test that needs them; nothing is skipped where they are missing.

Tests are kept apart by tenant: each takes a fresh one, so that many can share a database and
commit for real, as the product does.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from metering.database import make_engine, unit_of_work
from metering.tenancy import keys, scopes, tenants
from sandbox.servers import Postgres, Valkey
from tests.support import migrate
from webapp import create_app
from webapp.config import Config, database_url


@pytest.fixture(scope="session")
def state() -> Iterator[Path]:
    """A folder for the servers' state, open to the user who stands in for root."""
    folder = Path(tempfile.mkdtemp(prefix="stripemeter-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_url(state: Path) -> Iterator[str]:
    """An empty database: on the server of DATABASE_URL, else on one of our own."""
    given = os.environ.get("DATABASE_URL")
    if given is None:
        with Postgres(state / "pg", durable=False) as url:
            yield url
        return
    name = f"stripemeter_test_{uuid.uuid4().hex[:12]}"
    admin = create_engine(database_url(given), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield admin.url.set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


def _worker() -> tuple[int, int]:
    """(which of pytest's processes this is, how many there are): each has servers of its own."""
    name = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    return int(name.removeprefix("gw")), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


@pytest.fixture(scope="session")
def redis_url(state: Path) -> Iterator[str]:
    """An empty Redis: a free database of the one at REDIS_URL, else one of our own."""
    given = os.environ.get("REDIS_URL")
    if given is None:
        with Valkey(state / "vk") as url:
            yield url
        return
    base = given.partition("?")[0]
    # One who looks where another does could find the same database empty at the same time.
    worker, workers = _worker()
    for number in range(15 - worker, 0, -workers):
        numbered = urlsplit(base)._replace(path=f"/{number}").geturl()
        url = f"{base}?db={number}" if base.startswith("unix:") else numbered
        with redis.Redis.from_url(url) as connection:
            if connection.dbsize() == 0:
                yield url
                connection.flushdb()
                return
    pytest.fail("every database of the Redis at REDIS_URL holds something; empty one of 1 to 15")


@pytest.fixture(scope="session")
def database(postgres_url: str) -> str:
    """The URL of a migrated database."""
    migrate(postgres_url)
    return postgres_url


@pytest.fixture(scope="session")
def engine(database: str) -> Iterator[Engine]:
    made = make_engine(database)
    yield made
    made.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with Session(engine) as opened:
        yield opened


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def tenant(session: Session, now: datetime) -> str:
    """A fresh test tenant."""
    tenant_id = f"t-{uuid.uuid4()}"
    with unit_of_work(session):
        tenants.create(session, tenant_id, mode="test", now=now)
    return tenant_id


@pytest.fixture
def stranger(session: Session, now: datetime) -> str:
    """The id of a second, freshly made tenant."""
    tenant_id = f"stranger-{uuid.uuid4()}"
    with unit_of_work(session):
        tenants.create(session, tenant_id, mode="test", now=now)
    return tenant_id


@pytest.fixture(scope="session")
def config(database: str, redis_url: str) -> Config:
    """The sandbox's configuration."""
    return Config(
        database_url=database,
        redis_url=redis_url,
        sandbox=True,
        bind_host="127.0.0.1",
        statement_signing_key=bytes(32),
    )


@pytest.fixture(scope="session")
def app(config: Config) -> Iterator[Flask]:
    made = create_app(config)
    yield made
    with made.app_context():
        from webapp.extensions import db

        db.engine.dispose()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client that the sandbox lets in without a key."""
    return app.test_client()


@pytest.fixture
def key(session: Session, tenant: str, now: datetime) -> str:
    """An API key of the tenant with every scope."""
    with unit_of_work(session):
        _, secret = keys.create(
            session,
            tenant,
            name="test",
            scopes=["all"],
            granted_by=scopes.ALL,
            created_by="test",
            now=now,
        )
    return secret


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).resolve().parent.parent
