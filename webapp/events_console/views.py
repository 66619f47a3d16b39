"""The console's pages about single events: the latest, the walk of one, and dead letters.

Reading is GET with everything in the address; counting again is a plain form's post.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, g, redirect, request
from flask.typing import ResponseReturnValue

from metering.counters import dead_letters, standing
from metering.errors import DomainError, NotFoundError
from metering.ledger import read
from metering.proof import trail
from webapp import cursor, pages
from webapp.events.views import asked_span
from webapp.events_console import presenters
from webapp.evidence.letters import READ, WRITE, send_again
from webapp.evidence.views import calling
from webapp.extensions import db
from webapp.pages import Visitor
from webapp.problems import STATUS_OF, ProblemError

blueprint = Blueprint("events_console", __name__, url_prefix="/console/events")
HOME, WALK = "/console/events", "/console/events/walk"
LETTERS = "/console/events/dead-letters"
ROWS = 25
MOST_TEXT = 255


@blueprint.errorhandler(ProblemError)
def refuse(error: ProblemError) -> ResponseReturnValue:
    """A page's refusal is a page."""
    return pages.refused(error)


@blueprint.errorhandler(DomainError)
def refuse_of_core(error: DomainError) -> ResponseReturnValue:
    """So is the core's."""
    status = next(code for kind, code in STATUS_OF.items() if isinstance(error, kind))
    detail = error.message[:1].upper() + error.message[1:]
    return refuse(ProblemError(status, f"{detail.rstrip('.')}."))


@blueprint.get("")
def home() -> ResponseReturnValue:
    """The latest events, each a way into its walk."""
    visitor, session = pages.visitor(READ), db.session()
    asked = {name: _text(name) for name in ("metric", "customerRef", "from", "to", "after")}
    errors: dict[str, str] = {}
    start, end = _day("from", asked["from"], errors), _day("to", asked["to"], errors)
    if start is not None and end is not None and start > end:
        errors["to"] = "must not lie before the first day"
    page = None
    if not errors:
        span = {"start_time": start, "end_time": None if end is None else end + timedelta(days=1)}
        query = {"customer_ref": asked["customerRef"], "metric": asked["metric"]} | span
        by_time = start is not None or end is not None
        start_at, end_at = asked_span(session, visitor.tenant_id, _known(query), by_time)
        page = read.page(
            session,
            read.Slice(
                tenant_id=visitor.tenant_id,
                metric=asked["metric"],
                customer_ref=asked["customerRef"],
                start_at=start_at,
                end_at=end_at,
                by_event_time=by_time,
                after=cursor.read_place(asked["after"]) if asked["after"] else None,
                limit=ROWS,
            ),
        )
    events = page.events if page is not None else []
    standings = standing.of_events(session, visitor.tenant_id, events)
    following = page.next_after if page is not None else None
    return pages.render(
        "events_console/home.html",
        422 if errors else 200,
        visitor=visitor,
        rows=[
            presenters.row(event, standings[event.idempotency_key], g.now, _walk(visitor, event))
            for event in events
        ],
        asked=asked,
        errors=errors,
        letters=dead_letters.count(session, visitor.tenant_id),
        following=_link(visitor, HOME, asked | {"after": cursor.write(following)})
        if following
        else None,
        first=_link(visitor, HOME, asked | {"after": None}) if asked["after"] else None,
        is_filtered=any(value for name, value in asked.items() if name != "after"),
    )


@blueprint.get("/walk")
def walk() -> ResponseReturnValue:
    """The first step that is not done, in words, and then every step."""
    visitor, session, key = pages.visitor(READ), db.session(), request.args.get("id", "").strip()
    shown, errors = None, {}
    if len(key) > MOST_TEXT or "\x00" in key:
        errors = {"id": f"an id has 1 to {MOST_TEXT} characters"}
    elif key:
        try:
            known = calling(session, visitor.tenant_id)
            found = trail.walk(session, visitor.tenant_id, key, known, now=g.now)
            shown = presenters.walk(found, g.now)
        except NotFoundError:
            errors = {"id": "the ledger holds no event with this id"}
    return pages.render(
        "events_console/walk.html",
        404 if errors else 200,
        visitor=visitor,
        key=key,
        errors=errors,
        walk=shown,
        said=_SAID.get(request.args.get("said", "")),
        again=visitor.link(f"{LETTERS}/resend"),
        may_resend=visitor.may(WRITE),
        may_see_adjustments=visitor.may("adjustments:read"),
    )


@blueprint.get("/dead-letters")
def letters() -> ResponseReturnValue:
    """Events that the database refused to count, with the reason and the way out."""
    visitor, session, after = pages.visitor(READ), db.session(), _text("after")
    start = cursor.read(after, 1)[0] if after else ""
    found = dead_letters.page(session, visitor.tenant_id, after=start, limit=ROWS + 1)
    more = len(found) > ROWS
    return pages.render(
        "events_console/letters.html",
        visitor=visitor,
        rows=[
            presenters.letter(each, g.now, _link(visitor, WALK, {"id": each.event_id}))
            for each in found[:ROWS]
        ],
        total=dead_letters.count(session, visitor.tenant_id),
        most=dead_letters.TURN,
        following=_link(visitor, LETTERS, {"after": cursor.write([found[ROWS - 1].event_id])})
        if more
        else None,
        first=visitor.link(LETTERS) if after else None,
        said=_SAID.get(request.args.get("said", "")),
        again=visitor.link(f"{LETTERS}/resend"),
        may_resend=visitor.may(WRITE),
    )


@blueprint.post("/dead-letters/resend")
def resend() -> ResponseReturnValue:
    """Count one again, or all of them, and go back to where the button was."""
    visitor, key = pages.visitor(WRITE), request.form.get("id", "")
    if len(key) > MOST_TEXT or "\x00" in key:
        raise ProblemError(422, "There is no such event.")
    done = send_again(visitor.tenant_id, [key] if key else None)
    said = "sent" if done.events else "none"
    if request.form.get("back") == "walk":
        return redirect(_link(visitor, WALK, {"id": key, "said": said}), code=303)
    return redirect(_link(visitor, LETTERS, {"said": said}), code=303)


def _text(name: str) -> str | None:
    """A filter as it was typed; None: none. Raises: ProblemError 422 for one that is none."""
    typed = request.args.get(name, "").strip()
    if "\x00" in typed or len(typed) > 4 * MOST_TEXT:
        raise ProblemError(422, f"{name} is too long, or no text.")
    return typed or None


def _day(name: str, typed: str | None, errors: dict[str, str]) -> datetime | None:
    try:
        day = None if typed is None else datetime.strptime(typed, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        day = None
        errors[name] = "is no day, such as 2026-11-30"
    if day is not None and not 2000 <= day.year < 2100:
        errors[name] = "must lie between the years 2000 and 2100"
    return day


def _known(query: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}


def _walk(visitor: Visitor, event: Any) -> str:
    return _link(visitor, WALK, {"id": event.idempotency_key})


def _link(visitor: Visitor, path: str, query: dict[str, str | None]) -> str:
    return visitor.link(path, urlencode(_known(query)))


_SAID = {
    "sent": "It is being counted again, which takes some seconds. What the database refuses anew"
    " comes back to the dead letters.",
    "none": "There was nothing to count again: it is no dead letter any more, or it is void.",
}
