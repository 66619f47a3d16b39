"""Alembic's entry: run by `stripemeter migrate`, with the models' metadata as the target."""

from alembic import context

from metering.database import Base, make_engine
from webapp import config as configuration
from webapp import extensions  # noqa: F401  (imports every model)


def run() -> None:
    attributes = context.config.attributes
    given = attributes.get("connection")
    if given is not None:
        _migrate(given)
        return
    url = attributes.get("database_url") or configuration.load().database_url
    engine = make_engine(url, application_name="stripemeter migrate")
    try:
        with engine.connect() as connection:
            # A migration may rightly take longer than a request.
            connection.exec_driver_sql("SET statement_timeout = 0")
            connection.exec_driver_sql("SET idle_in_transaction_session_timeout = 0")
            connection.commit()
            _migrate(connection)
    finally:
        engine.dispose()


def _migrate(connection) -> None:  # type: ignore[no-untyped-def]
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        # Two releases at once: the second waits and finds nothing left to do.
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7261510)")
        context.run_migrations()


run()
