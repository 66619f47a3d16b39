"""The simulator's third step: try prices on real usage, and see who would pay what."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from flask import Blueprint, Response, g, redirect, request
from flask.typing import ResponseReturnValue

from metering.billing import backtest, question, simulations
from metering.catalog import metrics
from metering.database import unit_of_work
from metering.errors import ConflictError, DomainError, InvalidInputError, NotFoundError
from pricing import PricingError
from webapp import auth, pages
from webapp.extensions import db
from webapp.pages import Visitor
from webapp.problems import ProblemError
from webapp.simulations import backtest_views as api
from webapp.simulations.views import checked
from webapp.simulator import backtest_form, backtest_presenters, form, stored
from webapp.simulator.backtest_form import BacktestForm
from webapp.simulator.form import Form
from webapp.simulator.views import READ, WRITE, refuse

blueprint = Blueprint("backtest_pages", __name__, url_prefix="/simulator/backtest")
blueprint.register_error_handler(ProblemError, refuse)

KEPT_SHOWN = 20
_A_PRICE = re.compile(r"[a-d]-model")


@blueprint.errorhandler(DomainError)
def gone(error: DomainError) -> ResponseReturnValue:
    """A refusal of the core as a page."""
    status = 404 if isinstance(error, NotFoundError) else 409
    return refuse(ProblemError(status, f"{error.message[:1].upper()}{error.message[1:]}."))


@blueprint.get("")
def home() -> ResponseReturnValue:
    """What can be asked, and what was asked before."""
    visitor = pages.visitor(READ)
    return _home(visitor, _prices(visitor, request.args))


@blueprint.post("")
def ask() -> ResponseReturnValue:
    """Write the question down and go to where its answer will be."""
    visitor = pages.visitor(WRITE)
    prices = form.read(dict(parse_qsl(request.form.get("state", ""))))
    asked = _read(visitor, prices, request.form)
    wanted = backtest_form.wanted(asked)
    if asked.errors:
        return _home(visitor, prices, asked, status=422)
    try:
        with unit_of_work(db.session()) as session:
            auth.ensure_tenant(session, visitor.tenant_id)
            made = api.start(
                session, visitor.tenant_id, [each for _, each in wanted], asked.span,
                name=backtest_form.name_of(asked),
            )  # fmt: skip
            where = visitor.link(f"/simulator/backtest/{made.id}")
    except PricingError as error:
        backtest_form.blame(asked, error.field, error.reason, wanted)
    except (InvalidInputError, ConflictError, NotFoundError) as error:
        backtest_form.blame(asked, error.pointer or "", error.message, wanted)
    else:
        return redirect(where, code=303)
    return _home(visitor, prices, asked, status=422)


@blueprint.get("/<backtest_id>")
def shown(backtest_id: str) -> ResponseReturnValue:
    """How far it is, again every second where there is a script; then the answer."""
    visitor, session = pages.visitor(READ), db.session()
    found = backtest.get(session, visitor.tenant_id, checked(backtest_id))
    affected, names = api.affected(session, found)
    return pages.render(
        "simulator/backtest_result.html",
        visitor=visitor,
        page=backtest_presenters.page(found, affected, names),
    )


@blueprint.get("/<backtest_id>/customers.csv")
def customers_csv(backtest_id: str) -> Response:
    """Every customer under both prices."""
    visitor, session = pages.visitor(READ), db.session()
    return api.csv_of(session, api.ended_well(session, visitor.tenant_id, backtest_id))


@blueprint.post("/<backtest_id>/end")
def end(backtest_id: str) -> ResponseReturnValue:
    """Cancel it, or forget it once it has ended."""
    visitor = pages.visitor(WRITE)
    checked(backtest_id)
    where = f"/simulator/backtest/{backtest_id}"
    with unit_of_work(db.session()) as session:
        if not backtest.cancel(session, visitor.tenant_id, backtest_id, now=g.now):
            backtest.forget(session, visitor.tenant_id, backtest_id)
            where = "/simulator/backtest"
    return redirect(visitor.link(where), code=303)


def _prices(visitor: Visitor, given: Mapping[str, str]) -> Form | None:
    """The prices that the address or a saved comparison names; None if neither does."""
    if saved := given.get("saved"):
        kept = simulations.get(db.session(), visitor.tenant_id, checked(saved))
        return stored.read(simulations.document(kept)).form
    return form.read(given) if any(map(_A_PRICE.fullmatch, given)) else None


def _read(visitor: Visitor, prices: Form, given: Mapping[str, str]) -> BacktestForm:
    known = metrics.listed(db.session(), visitor.tenant_id)
    return backtest_form.read(given, prices, known, g.now)


def _home(
    visitor: Visitor, prices: Form | None, asked: BacktestForm | None = None, *, status: int = 200
) -> Response:
    session = db.session()
    if asked is None and prices is not None:
        asked = _read(visitor, prices, request.args)
    kept = backtest.listed(session, visitor.tenant_id, limit=KEPT_SHOWN)
    more: dict[str, Any] = {}
    if prices is None:
        more["saved"] = simulations.listed(session, visitor.tenant_id, kind="comparison")
    return pages.render(
        "simulator/backtest.html",
        status,
        visitor=visitor,
        asked=asked,
        query=prices.query() if prices is not None else "",
        kept=[backtest_presenters.row(each) for each in kept],
        most=question.MAX_METRICS,
        **more,
    )
