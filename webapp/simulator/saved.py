"""Comparisons that are kept under a name, for everyone who is signed in to the tenant."""

import json
import re
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, urlencode

from flask import Blueprint, g, redirect, request
from flask.typing import ResponseReturnValue

from metering.billing import simulations
from metering.billing.models import Simulation
from metering.database import unit_of_work
from metering.errors import ConflictError, InvalidInputError, NotFoundError
from pricing.price import to_config
from webapp import auth, pages, wire
from webapp.extensions import db
from webapp.pages import Visitor
from webapp.problems import ProblemError
from webapp.simulator import checking, form, stored
from webapp.simulator.form import Form
from webapp.simulator.views import READ, WRITE, refuse, show

blueprint = Blueprint("saved_simulations", __name__, url_prefix="/simulator/saved")
blueprint.register_error_handler(ProblemError, refuse)

KIND, ROWS = "comparison", 50


@blueprint.errorhandler(NotFoundError)
def gone(error: NotFoundError) -> ResponseReturnValue:
    """What does not exist in this tenant, whoever else may have it."""
    return refuse(ProblemError(404, "There is no such saved comparison; it may have been deleted."))


@blueprint.get("")
def listing() -> ResponseReturnValue:
    """What is saved, the last changed first."""
    return _list(pages.visitor(READ))


def _list(visitor: Visitor, *, deleted: dict[str, str] | None = None) -> ResponseReturnValue:
    place = _place(request.args.get("after", ""))
    rows = simulations.listed(
        db.session(), visitor.tenant_id, after=place, limit=ROWS + 1, kind=KIND
    )
    more = None
    if len(rows) > ROWS:
        last = rows[ROWS - 1]
        more = urlencode({"after": f"{wire.instant(last.updated_at)} {last.id}"})
    return pages.render(
        "simulator/saved.html",
        visitor=visitor,
        rows=rows[:ROWS],
        more=more,
        after=place,
        deleted=deleted,
    )


def _place(text: str) -> simulations.Place | None:
    instant, _, identifier = text.partition(" ")
    try:
        return (wire.read_instant(instant), _checked(identifier)) if identifier else None
    except (ValueError, NotFoundError):
        return None


def _checked(identifier: str) -> str:
    """An id that the database can be asked for; NotFoundError where nothing is called so."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", identifier):
        raise NotFoundError("there is no such simulation")
    return identifier


@blueprint.get("/<simulation_id>")
def opened(simulation_id: str) -> ResponseReturnValue:
    """A saved comparison, open to be changed and tried."""
    visitor = pages.visitor(READ)
    saved = simulations.get(db.session(), visitor.tenant_id, _checked(simulation_id))
    found = stored.read(simulations.document(saved))
    return show(visitor, found.form, saved=saved, left_out=found.left_out)


@blueprint.post("")
def save() -> ResponseReturnValue:
    """Keep what is in `state`, under the same id or a new one."""
    visitor = pages.visitor(WRITE)
    state = form.read(dict(parse_qsl(request.form.get("state", ""))))
    name, same = request.form.get("name", ""), request.form.get("as") == "same"
    identifier = _checked(request.form.get("id", "")) if same else None
    if "document" in request.form:
        return _restore(visitor, name, request.form["document"])
    mistake = _why_not(state)
    if mistake is None:
        try:
            kept = _keep(visitor, state, name, identifier)
            return redirect(visitor.link(f"/simulator/saved/{kept}"), code=303)
        except (InvalidInputError, ConflictError) as error:
            mistake = error.message[:1].upper() + error.message[1:] + "."
    return show(visitor, state, status=422, save_error=mistake, save_name=name)


def _restore(visitor: Visitor, name: str, text: str) -> ResponseReturnValue:
    """Save a deleted comparison again, to the letter."""
    try:
        document = json.loads(text, parse_float=Decimal)
        with unit_of_work(db.session()) as session:
            kept = simulations.save(
                session, visitor.tenant_id, name=name, kind=KIND, document=document,
                created_by=visitor.actor, now=g.now,
            ).id  # fmt: skip
    except (ValueError, RecursionError, TypeError):
        raise ProblemError(400, "This is not a saved comparison.") from None
    except (InvalidInputError, ConflictError) as error:
        raise ProblemError(422, error.message) from None
    return redirect(visitor.link(f"/simulator/saved/{kept}"), code=303)


def _why_not(state: Form) -> str | None:
    errors = checking.check(state).errors
    if not errors:
        return None
    return "Mend the fields that are marked first: an unfinished price is not saved."


def _keep(visitor: Visitor, state: Form, name: str, identifier: str | None) -> str:
    document = _document(state)
    with unit_of_work(db.session()) as session:
        auth.ensure_tenant(session, visitor.tenant_id)
        if identifier is not None:
            kept: Simulation = simulations.replace(
                session, visitor.tenant_id, identifier, name=name, document=document, now=g.now
            )
        else:
            kept = simulations.save(
                session, visitor.tenant_id, name=name, kind=KIND, document=document,
                created_by=visitor.actor, now=g.now,
            )  # fmt: skip
        return kept.id


def _document(state: Form) -> dict[str, Any]:
    checked = checking.check(state)
    return stored.document(
        state, {letter: to_config(price) for letter, price in checked.prices.items()}
    )


@blueprint.post("/<simulation_id>/duplicate")
def duplicate(simulation_id: str) -> ResponseReturnValue:
    """A copy under a new id, opened."""
    visitor = pages.visitor(WRITE)
    with unit_of_work(db.session()) as session:
        copy = simulations.duplicate(
            session, visitor.tenant_id, _checked(simulation_id), created_by=visitor.actor, now=g.now
        )
        identifier = copy.id
    return redirect(visitor.link(f"/simulator/saved/{identifier}"), code=303)


@blueprint.post("/<simulation_id>/delete")
def delete(simulation_id: str) -> ResponseReturnValue:
    """Delete it, and offer to save it again: nothing is lost by a slip of the hand."""
    visitor = pages.visitor(WRITE)
    with unit_of_work(db.session()) as session:
        saved = simulations.get(session, visitor.tenant_id, _checked(simulation_id))
        deleted = {"name": saved.name, "document": saved.document}
        simulations.delete(session, visitor.tenant_id, simulation_id)
    return _list(visitor, deleted=deleted)
