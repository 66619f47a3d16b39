"""The frame: its document, opened once by a code, and what it asks for under its session."""

import hashlib
import zlib
from dataclasses import dataclass
from datetime import UTC
from functools import cache
from pathlib import Path

from flask import Blueprint, Response, g, make_response, render_template, request
from sqlalchemy.orm import Session

from metering.billing import days, mark, projection
from metering.billing.days import LineDays
from metering.billing.projection import Projection
from metering.counters import recent, usage
from metering.database import unit_of_work
from metering.installation import WidgetSession
from webapp import assets, csv_export
from webapp.extensions import db
from webapp.widget import activity, brand, door, options, presenters, statement, words
from webapp.widget.options import Options

blueprint = Blueprint("widget", __name__)

AGE = "X-Widget-As-Of-Age"
# An estimate moves with time alone: what is shown is made anew this often, and with each day.
STEP_SECONDS = 300
A_SCRIPT_IS_KEPT = 300


@dataclass(frozen=True)
class Shown:
    """What a widget shows.

    etag: changes when any of it does; behind its hyphen alone, when nothing but time has passed.
    as_of_age: in seconds.
    """

    etag: str
    as_of_age: float


@blueprint.get("/widget.js")
def script() -> Response:
    """The script of the host's page: one address for ever, so it is asked for again and again."""
    response = assets.sent("widget.js")
    response.headers["Cache-Control"] = f"public, max-age={A_SCRIPT_IS_KEPT}"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


@blueprint.get("/widget/brand/<accent>/<radius>.css")
def brand_sheet(accent: str, radius: str) -> Response:
    """The host's colour and corners: a stylesheet, for the policy takes no styles in the page."""
    sheet = brand.css(options.accent(accent), options.radius(radius))
    response = Response(sheet, mimetype="text/css")
    response.headers["Cache-Control"] = f"public, max-age={assets.A_YEAR}, immutable"
    return response


@blueprint.get("/widget/f/<code>")
def document(code: str) -> Response:
    """The frame itself. Its address works once; its document holds the session's secret."""
    opened = door.spend(code)
    if opened is None:
        page = render_template("widget/ended.html", options=options.of_anyone(request.args))
        return door.framed(make_response(page, 401), ())
    asked = options.read(request.args)
    seen, session = opened.session, db.session()
    shown = _shown(session, seen, asked)
    page = render_template(
        "widget/frame.html",
        options=asked,
        secret=opened.secret,
        origin=seen.origin,
        ends_in=door.seconds_until(seen.ends_at),
        shown=shown,
        page=_page(session, seen, asked),
        version=version(),
    )
    return door.framed(make_response(page), seen.origins)


@blueprint.get("/widget/usage")
def poll() -> Response:
    """The frame's content; 304 while nothing of it has changed."""
    # A commit, though nothing is written: at a rollback the driver forgets the statements that it
    # has prepared, and to plan the look's takes longer than to run it.
    with unit_of_work(db.session()) as session:
        response = _looked(session, door.session(), options.read(request.args))
    return door.private(response)


def _looked(session: Session, seen: WidgetSession, asked: Options) -> Response:
    shown = _shown(session, seen, asked)
    # A proxy that squeezes the answer marks its tag as weak.
    if request.if_none_match.contains_weak(shown.etag):
        response = Response(status=304)
    else:
        page = _page(session, seen, asked)
        response = make_response(render_template("widget/_usage.html", page=page, options=asked))
    response.set_etag(shown.etag)
    response.headers[AGE] = f"{shown.as_of_age:.1f}"
    return response


@blueprint.get("/widget/activity")
def recent_activity() -> Response:
    """The customer's latest events: never their meta, which is the host's own."""
    seen, session = door.session(), db.session()
    asked = options.read(request.args)
    found = recent.of_customer(session, seen.tenant_id, seen.customer_ref, seen.metrics, now=g.now)
    events = activity.events(found, asked, now=g.now)
    page = render_template("widget/_activity.html", events=events, words=words)
    return door.private(make_response(page))


@blueprint.get("/widget/statement")
def statement_file() -> Response:
    """The period as CSV: each day of each metric, what it costs, and the total that is shown."""
    session = db.session()
    seen = door.session()
    projected, by_day = _usage(session, seen)
    lines = csv_export.lines(statement.HEADER, statement.rows(projected, by_day))
    response = Response(lines, mimetype="text/csv")
    name = f"usage-{projected.span.start_at:%Y-%m-%d}.csv"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return door.private(response)


@blueprint.after_request
def say_it_in_the_frame(response: Response) -> Response:
    """A frame that cannot be made says so on a page: people read it, and its script tells."""
    if request.endpoint == "widget.document" and response.mimetype == "application/problem+json":
        page = render_template("widget/failed.html", options=options.of_anyone(request.args))
        door.framed(response, ())
        response.set_data(page)
        response.mimetype = "text/html"
    return response


def _usage(session: Session, seen: WidgetSession) -> tuple[Projection, list[LineDays]]:
    projected = projection.project(session, seen.tenant_id, seen.customer_ref, None, now=g.now)
    if seen.metrics is not None:
        projected = projection.narrowed(projected, seen.metrics)
    by_day = days.of_projection(session, seen.tenant_id, seen.customer_ref, projected, now=g.now)
    return projected, by_day


def _page(session: Session, seen: WidgetSession, asked: Options) -> presenters.Page:
    projected, by_day = _usage(session, seen)
    return presenters.page(projected, by_day, asked, now=g.now, only=seen.metrics)


def _shown(session: Session, seen: WidgetSession, asked: Options) -> Shown:
    """Asked before the numbers are read: what changes in between is shown at the next look."""
    as_of = usage.as_of(session, seen.tenant_id, now=g.now)
    state = mark.of_customer(session, seen.tenant_id, seen.customer_ref, seen.metrics, now=g.now)
    # Each token has steps of its own: all that are open would else be made anew in one second.
    seconds = int(g.now.timestamp()) + zlib.crc32(seen.token_id.encode()) % STEP_SECONDS
    passed = f"{seconds // STEP_SECONDS}.{g.now.astimezone(UTC):%j}"
    parts = (version(), state, repr(seen.metrics), repr(asked))
    digest = hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:32]
    return Shown(f"{digest}-{passed}", max(0.0, (g.now - as_of).total_seconds()))


@cache
def version() -> str:
    """Of everything that the look of a widget comes from: a release that changes it shows."""
    here = Path(__file__).parent
    sources = [
        *here.glob("*.py"),
        here.parent / "shown.py",
        *(here.parent / "templates" / "widget").glob("*.html"),
        *(here.parent / "static").glob("widget*"),
    ]
    found = hashlib.sha256()
    for path in sorted(sources):
        found.update(path.read_bytes())
    return found.hexdigest()[:12]
