"""The HTTP edge. It turns requests into calls of `metering` and the core's refusals into
problems; it has no rule about money and no SQL beyond a page's reads."""

import re
import secrets
import time
from collections.abc import Callable
from datetime import datetime

from flask import Flask, Response, g, request
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import BaseConverter

from metering.database import engine_options, look_after
from webapp import assets, health, logs, problems, telemetry
from webapp import clock as wall_clock
from webapp import config as configuration
from webapp.adjustments.views import blueprint as adjustments
from webapp.adjustments_console.views import blueprint as adjustments_console
from webapp.backfill.views import blueprint as backfill
from webapp.body import MAX_BODY_BYTES
from webapp.catalog.views import blueprint as catalog
from webapp.config import Config
from webapp.console.views import blueprint as console
from webapp.events.views import blueprint as events
from webapp.events_console.views import blueprint as events_console
from webapp.evidence.letters import blueprint as dead_letters
from webapp.evidence.views import blueprint as evidence
from webapp.extensions import db
from webapp.ingest.views import blueprint as ingest
from webapp.keys.views import blueprint as keys
from webapp.mappings.views import blueprint as mappings
from webapp.periods_console.views import blueprint as periods_console
from webapp.queues import Hints
from webapp.replay.views import blueprint as replay
from webapp.runtime import Runtime
from webapp.simulations.backtest_views import blueprint as backtests
from webapp.simulations.views import blueprint as simulations
from webapp.simulator.backtest_views import blueprint as backtest_pages
from webapp.simulator.saved import blueprint as saved_simulations
from webapp.simulator.views import blueprint as simulator
from webapp.statements.views import blueprint as statements
from webapp.stripe_console.shadow_views import blueprint as shadow_console
from webapp.stripe_console.views import blueprint as stripe_console
from webapp.stripe_state.views import blueprint as stripe_state
from webapp.stripe_webhooks.views import blueprint as stripe_webhooks
from webapp.usage.views import blueprint as usage
from webapp.voids.views import blueprint as voids
from webapp.welcome.views import blueprint as welcome
from webapp.widget.exchange import blueprint as widget_exchange
from webapp.widget.frames import blueprint as widget_frames
from webapp.widget.tokens import blueprint as widget_tokens

BLUEPRINTS = (
    backfill,
    adjustments,
    adjustments_console,
    backtest_pages,
    backtests,
    catalog,
    console,
    dead_letters,
    events,
    events_console,
    evidence,
    health.blueprint,
    ingest,
    keys,
    mappings,
    periods_console,
    replay,
    saved_simulations,
    shadow_console,
    simulations,
    simulator,
    statements,
    stripe_console,
    stripe_state,
    stripe_webhooks,
    usage,
    voids,
    welcome,
    widget_exchange,
    widget_frames,
    widget_tokens,
)


class RestOfPath(BaseConverter):
    """The rest of the path, whatever it holds."""

    part_isolating = False
    regex = r"[\s\S]+"


# What is counted under its own name; anybody can invent others, each a time series for ever.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
# Scripts and styles are our own files only; nothing is framed, nothing is sniffed.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self';"
        " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def create_app(
    config: Config | None = None, *, clock: Callable[[], datetime] = wall_clock.wall
) -> Flask:
    """Build the app. config: read from the environment where it is not given."""
    config = config or configuration.load()
    wall_clock.follow(config.clock_file)
    logs.configure(config.log_level)
    app = Flask(__name__)
    app.url_map.strict_slashes = False
    # A name may hold slashes, also two together: /v1/metrics/tokens%2F%2Finput.
    app.url_map.merge_slashes = False
    app.url_map.converters["rest"] = RestOfPath
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES,
        SQLALCHEMY_DATABASE_URI=config.database_url,
        SQLALCHEMY_ENGINE_OPTIONS=engine_options(
            pool_size=config.web_threads, application_name="stripemeter web"
        ),
    )
    if config.trusted_proxies:
        hops = config.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops)  # type: ignore[method-assign]
    app.extensions["stripemeter"] = Runtime(
        config, clock, Hints(config.redis_url, verify_tls=config.redis_tls_verify)
    )
    db.init_app(app)
    with app.app_context():
        look_after(db.engine)
    problems.install(app)
    assets.install(app)
    _install_request_hooks(app, clock)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    return app


def _install_request_hooks(app: Flask, clock: Callable[[], datetime]) -> None:
    @app.before_request
    def begin() -> None:
        g.started = time.perf_counter()
        g.now = clock()
        given = request.headers.get("X-Request-Id", "")
        g.request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)

    @app.after_request
    def finish(response: Response) -> Response:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers["X-Request-Id"] = g.request_id
        _observe(response)
        return response


def _observe(response: Response) -> None:
    """Count and log the request, by its route and never by what it names."""
    route = request.url_rule.rule if request.url_rule else "unmatched"
    seconds = time.perf_counter() - g.started
    method = request.method if request.method in _METHODS else "other"
    telemetry.REQUESTS.labels(method, route, response.status_code).inc()
    telemetry.DURATION.labels(route).observe(seconds)
    level = telemetry.log.info if response.status_code < 500 else telemetry.log.warning
    level(
        "request",
        extra={
            "method": method,
            "route": route,
            "status": response.status_code,
            "milliseconds": round(seconds * 1000, 2),
        },
    )
