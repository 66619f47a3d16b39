"""The console's door: a one-time link becomes a session, and a session can be ended.

The link opens a page with a button, for whatever fetches links ahead of people must not spend
them. The page sends no referrer, and the link is worthless once used.
"""

from flask import Blueprint, Response, g, make_response, redirect, render_template, request
from flask.typing import ResponseReturnValue

from metering import installation
from metering.database import unit_of_work
from metering.errors import ForbiddenError
from metering.tenancy import console
from webapp import auth, pages
from webapp.adjustments.views import READ as ADJUSTMENTS_READ
from webapp.adjustments_console import presenters as adjustments
from webapp.extensions import db
from webapp.problems import ProblemError
from webapp.stripe_console import presenters as stripe_console
from webapp.stripe_state.views import READ as STRIPE_READ

blueprint = Blueprint("console", __name__, url_prefix="/console")


@blueprint.get("/enter")
def door() -> ResponseReturnValue:
    """Show whom the link is for and a button; nothing is spent yet."""
    link = installation.console_link(db.session(), request.args.get("token", ""))
    if link is None or link.used_at is not None or link.expires_at <= g.now:
        return _page("console/closed.html", 403)
    return _page("console/door.html", 200, token=request.args["token"], link=link)


@blueprint.post("/enter")
def enter() -> ResponseReturnValue:
    """Spend the link for a session."""
    try:
        with unit_of_work(db.session()) as session:
            link = installation.console_link(session, request.form.get("token", ""))
            signed_in = console.enter(session, link, now=g.now)
    except ForbiddenError:
        return _page("console/closed.html", 403)
    response = make_response(redirect("/console", code=303))
    response.set_cookie(
        auth.SESSION_COOKIE,
        signed_in.token,
        max_age=int(console.SESSION_LIFETIME.total_seconds()),
        httponly=True,
        samesite="Lax",
        secure=request.is_secure,
    )
    return response


@blueprint.get("")
def home() -> ResponseReturnValue:
    """Who is signed in, whether anything is wrong with the money, and what there is to do."""
    try:
        caller = auth.principal()
    except ProblemError:
        return _page("console/closed.html", 401)
    csrf = auth.csrf_token(caller.session_token) if caller.session_token else None
    tenant_id, lead = caller.tenant_id or pages.SANDBOX_TENANT, None
    if caller.may(STRIPE_READ):
        lead = stripe_console.lead(db.session(), tenant_id, g.now)
    decisions = None
    if caller.may(ADJUSTMENTS_READ):
        decisions = adjustments.lead(db.session(), tenant_id, g.now)
    shown = {"caller": caller, "csrf": csrf, "lead": lead, "decisions": decisions}
    return _page("console/home.html", 200, **shown)


@blueprint.post("/leave")
def leave() -> ResponseReturnValue:
    """End the session."""
    caller = auth.principal()
    if caller.session_token is not None and caller.tenant_id is not None:
        with unit_of_work(db.session()) as session:
            console.leave(session, caller.tenant_id, caller.session_token)
    response = make_response(redirect("/console", code=303))
    response.delete_cookie(auth.SESSION_COOKIE, httponly=True, samesite="Lax")
    return response


def _page(template: str, status: int, **context: object) -> Response:
    response = make_response(render_template(template, **context), status)
    response.headers["Cache-Control"] = "no-store"
    return response
