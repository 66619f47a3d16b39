"""The console's page about Stripe: is anything wrong with the money, what is stuck, how far is it?

Reading is GET with the filter in the address; trying again is a plain form's post.
"""

from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, g, redirect, request
from flask.typing import ResponseReturnValue

from metering import installation
from metering.catalog import customers
from metering.errors import DomainError
from metering.stripe import standing, stuck
from metering.stripe.findings import KINDS, MOST
from metering.stripe.modes import MODES
from metering.stripe.stuck import Stuck
from webapp import cursor, pages
from webapp.extensions import db
from webapp.pages import Visitor
from webapp.problems import STATUS_OF, ProblemError
from webapp.stripe_console import presenters, words
from webapp.stripe_state import naming, sentences
from webapp.stripe_state.views import READ, WRITE, read_place, try_again

blueprint = Blueprint("stripe_console", __name__, url_prefix="/console/stripe")
HOME = "/console/stripe"
ROWS = 25


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
    """The sentence, what is stuck by money, then each mode's way from counted to confirmed."""
    visitor, asked = pages.visitor(READ), _filters()
    session = db.session()
    standings = standing.overview(session, visitor.tenant_id, now=g.now)
    every = stuck.everything(session, visitor.tenant_id)
    lead = presenters.lead_of(standings, every)
    uncounted, oldest = standing.uncounted(session, visitor.tenant_id)
    is_cut = any(sentences.is_cut(each, every) for each in standings)
    by_mode, by_kind = presenters.choices(every, asked["mode"], asked["kind"])
    return pages.render(
        "stripe_console/home.html",
        visitor=visitor,
        lead=lead,
        now=words.moment(g.now, g.now),
        uncounted=f"{uncounted:,}{'+' if uncounted >= standing.COUNTED_TO else ''}",
        uncounted_since=words.moment(oldest, g.now),
        found=_found(visitor, every, asked, lead.mode, is_cut=is_cut),
        by_mode=by_mode,
        by_kind=by_kind,
        address=lambda **changes: visitor.link(HOME, _query(asked | {"after": None} | changes)),
        retry=visitor.link(f"{HOME}/retry", _query(asked)),
        may_retry=visitor.may(WRITE),
        said=_said(every),
        lags=[presenters.lag(each, every, g.now) for each in standings],
        is_bound=bool(installation.accounts_of(session, visitor.tenant_id)),
        host=request.host_url.rstrip("/"),
    )


@blueprint.post("/retry")
def retry() -> ResponseReturnValue:
    """Try one of them again, and say what came of it where the form was."""
    visitor, asked = pages.visitor(WRITE), _filters()
    name = request.form.get("id", "")
    is_tried = try_again(db.session(), visitor.tenant_id, name)
    said: dict[str, str | None] = {"said": "tried" if is_tried else "gone", "of": name}
    return redirect(visitor.link(HOME, _query(asked | said)), code=303)


def _filters() -> dict[str, str | None]:
    """Of which mode and kind, and from where on; None: all, from the first.

    Raises: ProblemError 422 for a mode or kind that there is not, InvalidInputError for a place
            that is none of ours.
    """
    asked = {name: request.args.get(name) or None for name in ("mode", "kind", "after")}
    for name, known in (("mode", MODES), ("kind", KINDS)):
        if asked[name] not in (None, *known):
            raise ProblemError(422, f"There is no such {name}; there are {', '.join(known)}.")
    if asked["after"] is not None:
        read_place(asked["after"])
    return asked


def _query(of: dict[str, str | None]) -> str:
    return urlencode({name: value for name, value in of.items() if value is not None})


def _found(
    visitor: Visitor,
    every: list[Stuck],
    asked: dict[str, str | None],
    lead_mode: str | None,
    *,
    is_cut: bool,
) -> dict[str, Any]:
    """The page of what was asked for, and what all of that comes to."""
    mode, kind, after = asked["mode"], asked["kind"], asked["after"]
    chosen = [
        each
        for each in every
        if mode in (None, each.finding.mode) and kind in (None, each.finding.kind)
    ]
    rest = stuck.page(chosen, after=read_place(after) if after else None, limit=len(chosen))
    page, first = rest[:ROWS], len(chosen) - len(rest) + 1
    names = customers.found(db.session(), visitor.tenant_id, presenters.refs(page))
    # What a shadow lacks costs nobody anything, and must not blur what the live mode lacks.
    bills = [each for each in chosen if each.finding.mode == (mode or lead_mode)]
    return {
        "rows": [presenters.row(each, names, g.now) for each in page],
        "total": len(chosen),
        "first": first,
        "last": first + len(page) - 1,
        "at_stake": sentences.at_stake(bills, is_cut=is_cut),
        "cut_to": f"{MOST:,}" if is_cut else None,
        "next": cursor.write(page[-1].place) if len(rest) > ROWS else None,
    }


def _said(every: list[Stuck]) -> str | None:
    """What became of what was tried, by its name where it is still to be seen."""
    said, name = request.args.get("said"), request.args.get("of")
    if said not in _SAID:
        return None
    still = next((each for each in every if naming.write(each.finding) == name), None)
    return _SAID[said].format(it=presenters.about(still.finding) if still else "It")


_SAID = {
    "tried": (
        "{it}: it is being tried again. If Stripe takes it, it leaves this list within some"
        " seconds; else it stays, with the reason."
    ),
    "gone": "There was nothing to try: it is not stuck any more, or trying cannot help.",
}
