"""The console's pages about adjustments: what waits, each of them, and one made by hand.

Reading is GET with the filter in the address; deciding is a plain form's post.
"""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, g, redirect, request
from flask.typing import ResponseReturnValue

from metering.billing import at_stake
from metering.catalog import customers, metrics
from metering.counters import adjustments, bounds, deciding
from metering.counters.adjustments import Filter
from metering.counters.models import Adjustment
from metering.database import unit_of_work
from metering.errors import ConflictError, DomainError, InvalidInputError, NotFoundError
from webapp import auth, cursor, pages
from webapp.adjustments.views import READ, WRITE, checked
from webapp.adjustments_console import detail, form, presenters, words
from webapp.adjustments_console.presenters import Waiting
from webapp.extensions import db
from webapp.pages import Visitor
from webapp.problems import ProblemError
from webapp.stripe_console.views import refuse, refuse_of_core

blueprint = Blueprint("adjustments_console", __name__, url_prefix="/console/adjustments")
blueprint.register_error_handler(ProblemError, refuse)
blueprint.register_error_handler(DomainError, refuse_of_core)

HOME, CSV = "/console/adjustments", "/v1/adjustments"
ROWS, EVENT_ROWS = 25, 25
ALL = "all"
SORTS = ("newest", "oldest", "stake")


@blueprint.get("")
def home() -> ResponseReturnValue:
    """The sentence, then those that were asked for: by default those that wait."""
    visitor, asked = pages.visitor(READ), _asked()
    session = db.session()
    waiting = presenters.waiting(session, visitor.tenant_id, g.now)
    page, following = _page(visitor.tenant_id, asked, waiting)

    def address(path: str = HOME, **changes: str | None) -> str:
        return visitor.link(path, _query(asked | {"after": None} | changes))

    return pages.render(
        "adjustments/home.html",
        visitor=visitor,
        sentence=presenters.sentence(waiting),
        chips=_chips(adjustments.by_status(session, visitor.tenant_id), asked["status"]),
        asked=asked,
        rows=presenters.rows(session, visitor.tenant_id, page, waiting.stakes, g.now),
        address=address,
        following=address(after=following) if following else None,
        csv=visitor.link(CSV, _query(_file(asked))),
        may_write=visitor.may(WRITE),
    )


def _asked() -> dict[str, str | None]:
    """The filter of the address. Raises: ProblemError 422 for a status or an order that there is
    not, InvalidInputError for a place that is none of ours."""
    names = ("status", "customer", "metric", "sort", "after")
    asked = {name: request.args.get(name, "").strip() or None for name in names}
    if asked["status"] not in (None, ALL, *adjustments.STATUSES):
        raise ProblemError(422, "There is no such status.")
    if asked["sort"] not in (None, *SORTS):
        raise ProblemError(422, "There is no such order.")
    if any("\x00" in value for value in asked.values() if value):
        raise ProblemError(422, "The address holds a character that nothing is called by.")
    return asked


def _query(of: dict[str, str | None]) -> str:
    return urlencode({name: value for name, value in of.items() if value is not None})


def _file(asked: dict[str, str | None]) -> dict[str, str | None]:
    """What the API calls the same."""
    status = asked["status"] or "pending"
    return {
        "format": "csv",
        "status": None if status == ALL else status,
        "customerRef": asked["customer"],
        "metric": asked["metric"],
    }


def _page(
    tenant_id: str, asked: dict[str, str | None], waiting: Waiting
) -> tuple[Sequence[Adjustment], str | None]:
    """A page, and where the next one begins."""
    status, after = asked["status"] or "pending", asked["after"]
    if asked["sort"] == "stake" and status == "pending":
        ranked = presenters.by_stake(waiting, asked["customer"], asked["metric"])
        first = int(after) if after and re.fullmatch(r"[0-9]{1,6}", after) else 0
        more = str(first + ROWS) if len(ranked) > first + ROWS else None
        return ranked[first : first + ROWS], more
    wanted = Filter(
        status=None if status == ALL else status,
        customer_ref=asked["customer"],
        metric=asked["metric"],
        after=cursor.read_place(after) if after else None,
        limit=ROWS,
        oldest_first=asked["sort"] == "oldest",
    )
    found = adjustments.page(db.session(), tenant_id, wanted)
    page = found[:ROWS]
    if len(found) <= ROWS:
        return page, None
    return page, cursor.write((page[-1].created_at, page[-1].adjustment_id))


def _chips(counts: dict[str, int], chosen: str | None) -> list[dict[str, Any]]:
    offered = [*adjustments.STATUSES, ALL]
    names = {"pending": "Wait", ALL: "All"}
    return [
        {
            "value": value,
            "text": names.get(value) or words.STATUSES[value],
            "count": sum(counts.values()) if value == ALL else counts.get(value, 0),
            "is_chosen": value == (chosen or "pending"),
        }
        for value in offered
    ]


@blueprint.get("/new")
def new() -> ResponseReturnValue:
    """An empty form, or one with what the address says."""
    visitor = pages.visitor(WRITE)
    typed = {name: request.args.get(name, "") for name in form.FIELDS}
    return _form(visitor, typed, {})


@blueprint.post("/new")
def make() -> ResponseReturnValue:
    """Make what the form says; it waits for a decision then."""
    visitor = pages.visitor(WRITE)
    typed = {name: request.form.get(name, "").strip() for name in form.FIELDS}
    found = form.check(typed, g.now)
    if found.wanted is None:
        return _form(visitor, typed, found.errors)
    key = request.form.get("key", "")
    try:
        with unit_of_work(db.session()) as session:
            auth.ensure_tenant(session, visitor.tenant_id)
            made = adjustments.create(
                session,
                visitor.tenant_id,
                # The form is named when it is shown, so that pressing twice makes one.
                adjustments.id_of(f"form {key}" if key else None),
                found.wanted,
                actor=visitor.actor,
                now=g.now,
            ).adjustment_id
    except NotFoundError:
        return _form(visitor, typed, {"metric": "There is no such metric; it is made by its use."})
    except InvalidInputError as error:
        return _form(visitor, typed, {"delta": f"{error.message[:1].upper()}{error.message[1:]}."})
    return redirect(visitor.link(f"{HOME}/{made}"), code=303)


def _form(visitor: Visitor, typed: dict[str, str], errors: dict[str, str]) -> ResponseReturnValue:
    return pages.render(
        "adjustments/new.html",
        422 if errors else 200,
        visitor=visitor,
        typed=typed,
        errors=errors,
        reasons=form.REASONS,
        key=request.form.get("key") or adjustments.id_of(None),
        today=f"{g.now:%Y-%m-%d}",
        metrics=[row.metric for row in metrics.listed(db.session(), visitor.tenant_id)][:200],
    )


@blueprint.get("/<adjustment_id>")
def one(adjustment_id: str) -> ResponseReturnValue:
    """What happened, what it does to the money, and the buttons."""
    return _one(pages.visitor(READ), checked(adjustment_id))


def _one(
    visitor: Visitor, adjustment_id: str, *, refused: str = "", note: str = "", status: int = 200
) -> ResponseReturnValue:
    session, tenant_id = db.session(), visitor.tenant_id
    found = adjustments.get(session, tenant_id, adjustment_id)
    after = request.args.get("events", "")
    rows = adjustments.events_of(
        session,
        tenant_id,
        adjustment_id,
        after=cursor.read(after, 1)[0] if after else "",
        limit=EVENT_ROWS + 1,
    )
    path, page = f"{HOME}/{adjustment_id}", rows[:EVENT_ROWS]
    more = None
    if len(rows) > EVENT_ROWS:
        more = visitor.link(path, urlencode({"events": cursor.write((page[-1].idempotency_key,))}))
    known = customers.find(session, tenant_id, found.customer_ref)
    shown = detail.of(
        found,
        adjustments.contents(session, tenant_id, [found])[adjustment_id],
        bounds.of_adjustments(session, tenant_id, [found], now=g.now)[adjustment_id],
        at_stake.of(session, tenant_id, found, now=g.now),
        adjustments.steps(session, tenant_id, adjustment_id),
        metrics.get(session, tenant_id, found.metric).aggregation,
        known.name if known is not None else None,
        g.now,
    )
    return pages.render(
        "adjustments/one.html",
        status,
        visitor=visitor,
        detail=shown,
        events=detail.events_of(session, tenant_id, page),
        first=visitor.link(path) if after else None,
        more=more,
        decide=visitor.link(f"{path}/decide"),
        may_write=visitor.may(WRITE),
        said=_SAID.get(request.args.get("said", "")) if not refused else None,
        refused=refused,
        note=note,
    )


@blueprint.post("/<adjustment_id>/decide")
def decide(adjustment_id: str) -> ResponseReturnValue:
    """Do what the button says, and say so where it stood."""
    visitor, known = pages.visitor(WRITE), checked(adjustment_id)
    choice, note = request.form.get("decision", ""), request.form.get("note", "").strip()
    if "\x00" in note:
        raise ProblemError(422, "The note holds a character that cannot be kept.")
    said: dict[str, Any] = {"note": note or None, "actor": visitor.actor, "now": g.now}
    try:
        with unit_of_work(db.session()) as session:
            if choice == "decline":
                deciding.decline(session, visitor.tenant_id, known, **said)
            elif choice == "revert":
                deciding.revert(session, visitor.tenant_id, known, **said)
            else:
                deciding.approve(session, visitor.tenant_id, known, disposition=choice, **said)
    except (ConflictError, InvalidInputError) as error:
        code = 409 if isinstance(error, ConflictError) else 422
        text = f"Nothing was changed: {error.message.rstrip('.')}."
        return _one(visitor, known, refused=text, note=note, status=code)
    return redirect(visitor.link(f"{HOME}/{known}", urlencode({"said": choice})), code=303)


_SAID = {
    "apply": "It is applied. Stripe is told within seconds.",
    "carry_forward": "It is carried forward. Stripe is told within seconds.",
    "invoice_item": "It is noted: add the invoice item in Stripe now.",
    "credit_note": "It is noted: give the credit note in Stripe now.",
    "write_off": "It is written off.",
    "decline": "It is declined.",
    "revert": "It is reverted.",
}
