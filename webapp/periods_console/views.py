"""The console's page of a customer's billing periods: which are closed, and what came too late."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from flask import Blueprint, g, request
from flask.typing import ResponseReturnValue

from metering.catalog import customers
from metering.counters import calendar
from metering.counters.calendar import Listed
from metering.errors import DomainError
from webapp import cursor, pages
from webapp.extensions import db
from webapp.pages import Visitor
from webapp.periods_console import sentences
from webapp.problems import ProblemError
from webapp.stripe_console.views import refuse, refuse_of_core

blueprint = Blueprint("periods_console", __name__, url_prefix="/console/periods")
blueprint.register_error_handler(ProblemError, refuse)
blueprint.register_error_handler(DomainError, refuse_of_core)

PAGE, ADJUSTMENTS = "/console/periods", "/console/adjustments"
READ, DECIDE = "usage:read", "adjustments:read"
ROWS = 25
MOST_LETTERS = 255


@dataclass(frozen=True)
class Row:
    """A period; texts. waits: something of it is to be decided."""

    title: str
    metric: str
    state: str
    in_words: str
    waits: bool


@blueprint.get("")
def listing() -> ResponseReturnValue:
    """The sentence, then the periods, the newest first. Without a customer, the question whose."""
    visitor = pages.visitor(READ)
    ref = request.args.get("customerRef", "").strip()
    metric = request.args.get("metric", "").strip() or None
    if not ref or len(ref) > MOST_LETTERS:
        error = f"A customer's ref has at most {MOST_LETTERS} characters." if ref else ""
        return _page(visitor, ref=ref, error=error, status=422 if error else 200)
    session, after = db.session(), request.args.get("after")
    found = calendar.page(
        session,
        visitor.tenant_id,
        ref,
        metric=metric,
        after=cursor.read_place(after) if after else None,
        limit=ROWS + 1,
        now=g.now,
    )
    known = customers.found(session, visitor.tenant_id, [ref]).get(ref)
    pending = calendar.pending(session, visitor.tenant_id, ref)
    named = {"customerRef": ref} | ({"metric": metric} if metric else {})
    more = len(found) > ROWS

    def address(**more: str) -> str:
        return visitor.link(PAGE, urlencode(named | more))

    name = (known.name if known else None) or ref
    return _page(
        visitor,
        ref=ref,
        metric=metric,
        name=name,
        lead=sentences.lead(name, pending, has_periods=bool(found)),
        rows=[_row(each) for each in found[:ROWS]],
        adjustments=_adjustments(visitor, ref) if pending or _came_late(found) else None,
        first=address() if after else None,
        next=address(after=cursor.write(found[ROWS - 1].place)) if more else None,
    )


def _came_late(found: Sequence[Listed]) -> bool:
    return any(each.set_aside or each.pending for each in found)


def _adjustments(visitor: Visitor, ref: str) -> str | None:
    """Where what came too late is decided on, for those who may look there."""
    if not visitor.may(DECIDE):
        return None
    return visitor.link(ADJUSTMENTS, urlencode({"customerRef": ref}))


def _row(of: Listed) -> Row:
    return Row(
        title=sentences.title(of.span),
        metric=of.metric,
        state=sentences.STATES[of.state],
        in_words=sentences.period(of),
        waits=bool(of.pending),
    )


def _page(
    visitor: Visitor, *, ref: str, error: str = "", status: int = 200, **context: object
) -> ResponseReturnValue:
    errors = {"customerRef": error} if error else {}
    template = "periods_console/listing.html"
    return pages.render(
        template, status, visitor=visitor, ref=ref, errors=errors, page=PAGE, **context
    )
