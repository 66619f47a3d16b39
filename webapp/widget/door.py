"""Who may see a widget: the origin of the page, the frame's session, and the frame's headers.

Browsers block cookies of frames from elsewhere, so there are none: the session's secret stands in
the frame's document and comes back in a header.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from flask import Response, g, request

from metering import installation
from metering.database import unit_of_work
from metering.errors import InvalidInputError
from metering.installation import WidgetSession
from metering.tenancy import widgets
from webapp.extensions import db
from webapp.problems import ProblemError

HEADER = "X-Widget-Session"
_NOBODY = "This widget token is unknown, has expired or was revoked: make another one."
_ENDED = "This widget's session has ended."
# Scripts and styles are our own files; nothing is sent anywhere but to us.
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self';"
    " form-action 'none'; base-uri 'none'; frame-ancestors {ancestors}"
)


def page_origin() -> str:
    """The origin of the page that asks. Raises: ProblemError 403 where there is none to name."""
    origin = request.headers.get("Origin")
    if origin is None:
        raise ProblemError(403, "Only a page's script may ask: the request names no Origin.")
    if origin == "null":
        raise ProblemError(
            403, "A page that is opened from a file has no origin: serve it over http or https."
        )
    try:
        return widgets.check_origin(origin)
    except InvalidInputError:
        raise ProblemError(403, "The request's Origin cannot be read.") from None


def unknown_token() -> ProblemError:
    """One answer for what is forged, foreign, expired or revoked: it tells nothing apart."""
    return ProblemError(401, _NOBODY)


def unknown_code() -> ProblemError:
    """A frame's address is opened for the second time, or too late, or its token has ended."""
    return ProblemError(401, "This widget was opened already, or too late: load the page again.")


@dataclass(frozen=True)
class Opened:
    """A frame that has just been opened. secret: of its session; nobody can read it again."""

    secret: str
    session: WidgetSession


def spend(code: str) -> Opened | None:
    """Open a frame with its code; None if that is unknown, spent or too old."""
    with unit_of_work(db.session()) as session:
        frame = installation.widget_frame(session, code, now=g.now)
        secret = widgets.open_frame(session, frame, now=g.now) if frame is not None else None
        if secret is None:
            return None
        found = installation.widget_session(session, secret, now=g.now)
    return Opened(secret, found) if found is not None else None


def seconds_until(instant: datetime) -> int:
    """Whole seconds from now on, never less than none."""
    return max(0, int((instant - g.now).total_seconds()))


def session() -> WidgetSession:
    """Whose usage the frame shows. Raises: ProblemError 401 once its session has ended."""
    secret = request.headers.get(HEADER, "")
    found = None
    if secret:
        found = installation.widget_session(db.session(), secret, now=g.now)
    if found is None:
        raise ProblemError(401, _ENDED)
    return found


def private(response: Response) -> Response:
    """What belongs to one customer is kept by nobody."""
    response.headers["Cache-Control"] = "no-store"
    response.vary.add(HEADER)
    return response


def framed(response: Response, origins: Sequence[str]) -> Response:
    """Let pages of these origins frame it, and no others; none: any page, for it shows nothing."""
    ancestors = " ".join(origins) or "*"
    response.headers["Content-Security-Policy"] = _POLICY.format(ancestors=ancestors)
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-store"
    return response


def open_to_pages(response: Response) -> Response:
    """Let the page's script read the answer, refusals too: without a token none says anything."""
    origin = request.headers.get("Origin")
    if origin is not None:
        response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Allow-Methods"] = "POST"
    response.headers["Access-Control-Allow-Headers"] = "Content-Type"
    response.headers["Access-Control-Expose-Headers"] = "Retry-After, X-Request-Id"
    response.headers["Access-Control-Max-Age"] = "600"
    response.headers["Cache-Control"] = "no-store"
    response.vary.add("Origin")
    return response
