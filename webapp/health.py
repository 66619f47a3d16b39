"""Is it alive, can it work, what does it do: for platforms, operators and Prometheus."""

import hmac
from functools import cache
from pathlib import Path

from alembic.config import Config as AlembicConfig
from alembic.script import ScriptDirectory
from flask import Blueprint, Response, g, request
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from metering import installation
from webapp import auth, clock, runtime, telemetry, wire
from webapp.endpoint import Contract, declare
from webapp.extensions import db
from webapp.problems import ProblemError, document

blueprint = Blueprint("health", __name__)

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"


@blueprint.get("/health/live")
def live() -> Response:
    """This process answers."""
    return wire.answer({"status": "ok"})


@blueprint.get("/health/ready")
def ready() -> Response:
    """The database answers and has the schema of this code. Redis away is no reason to be taken
    out of service: usage is stored all the same."""
    failing = _failing_check()
    if failing is not None:
        return document(503, failing, headers={"Retry-After": "1"})
    degraded = [] if runtime.current().hints.is_answering() else ["redis"]
    return wire.answer({"status": "ok", "degraded": degraded})


@blueprint.get("/metrics")
def metrics() -> Response:
    """Prometheus' text form. Outside the sandbox it wants METRICS_TOKEN as a bearer token."""
    _check_metrics_token()
    now = g.now
    totals, stripe = installation.totals(db.session()), installation.stripe_totals(db.session())
    lags = runtime.current().hints.lag_seconds(clock.machine().timestamp())
    shared = runtime.current().config.metrics_shared
    body = telemetry.exposition(totals, stripe, lags, now=now, shared=shared)
    return Response(body, content_type="text/plain; version=0.0.4; charset=utf-8")


def head() -> str:
    """The schema version that this code wants."""
    return _head()


@cache
def _head() -> str:
    config = AlembicConfig()
    config.set_main_option("script_location", str(MIGRATIONS))
    revision = ScriptDirectory.from_config(config).get_current_head()
    assert revision is not None
    return revision


def _failing_check() -> str | None:
    try:
        version = db.session().execute(text("SELECT version_num FROM alembic_version")).scalar()
    except SQLAlchemyError as error:
        undefined_table = getattr(getattr(error, "orig", None), "sqlstate", "") == "42P01"
        if undefined_table:
            return "schema: the database is empty; run `stripemeter migrate`"
        return "database: it cannot be reached"
    if version != head():
        return f"schema: the database is at {version}, this code wants {head()}"
    return None


def _check_metrics_token() -> None:
    config = runtime.current().config
    if config.metrics_token is None:
        if auth.why_not_open(config, request) is None:
            return
        raise ProblemError(403, "/metrics is closed: set METRICS_TOKEN to open it.")
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    wanted = config.metrics_token.encode()
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), wanted):
        raise ProblemError(
            401,
            "Send the METRICS_TOKEN as a bearer token.",
            headers={"WWW-Authenticate": 'Bearer realm="metrics"'},
        )


declare(
    live,
    Contract("The process answers", None, tag="Operations", why_open="platforms ask without a key"),
)
declare(
    ready,
    Contract(
        "The process can do its work",
        None,
        statuses=(503,),
        tag="Operations",
        why_open="platforms ask without a key",
    ),
)
declare(
    metrics,
    Contract(
        "Prometheus metrics",
        None,
        statuses=(401, 403),
        tag="Operations",
        media_type="text/plain",
        why_open="guarded by METRICS_TOKEN",
    ),
)
