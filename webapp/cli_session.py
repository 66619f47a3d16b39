"""The database of an operator's command: opened by the environment, closed at its end."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session

from metering.database import make_engine
from webapp import clock
from webapp import config as configuration


@contextmanager
def opened() -> Iterator[Session]:
    """A session; needs no Redis. Raises: ConfigError."""
    config = configuration.load(needs_redis=False)
    clock.follow(config.clock_file)
    engine = make_engine(config.database_url, application_name="stripemeter cli")
    try:
        with Session(engine) as session:
            yield session
    finally:
        engine.dispose()
