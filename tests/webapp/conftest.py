"""Apps that are not the open sandbox: shut ones, and ones with a clock of their own."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from tests.support import scalar
from tests.webapp.support import AppMaker, Clock, make_key
from webapp import clock as wall_clock
from webapp import create_app
from webapp.config import Config
from webapp.extensions import db


@pytest.fixture(scope="session")
def apps_made() -> list[Flask]:
    """Every app that `make_app` has built."""
    return []


@pytest.fixture(autouse=True)
def _connections_end_with_the_test(apps_made: list[Flask]) -> Iterator[None]:
    """Many tests build an app each, and the server takes a hundred connections."""
    yield
    for app in apps_made:
        with app.app_context():
            db.engine.dispose()


@pytest.fixture(scope="session")
def make_app(config: Config, apps_made: list[Flask]) -> AppMaker:
    """Build an app with other settings."""

    def make(clock: object = wall_clock.wall, **settings: object) -> Flask:
        app = create_app(replace(config, **settings), clock=clock)  # type: ignore[arg-type]
        apps_made.append(app)
        return app

    return make


@pytest.fixture(scope="session")
def shut_app(make_app: AppMaker) -> Flask:
    """An app as production runs it: nobody gets in without a key."""
    return make_app(sandbox=False)


@pytest.fixture
def shut(shut_app: Flask) -> FlaskClient:
    return shut_app.test_client()


@pytest.fixture
def clock(now: datetime) -> Clock:
    return Clock(now)


@pytest.fixture
def strangers_key(session: Session, stranger: str, now: datetime) -> str:
    """The stranger's key, with every scope there is."""
    return make_key(session, stranger, ["all"], now=now)


@pytest.fixture
def nothing_written(session: Session, tenant: str) -> Iterator[None]:
    """The test leaves the ledger of its tenant empty."""
    yield
    sql = "SELECT count(*) FROM events WHERE tenant_id = :t"
    assert scalar(session, sql, t=tenant) == 0
