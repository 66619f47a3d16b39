"""The simulator: build prices, see what they cost, compare up to four of them.

Computing is GET with everything in the address; only pasting and saving are posts.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from flask import Blueprint, Response, redirect, request
from flask.typing import ResponseReturnValue
from marshmallow import ValidationError

from pricing import InvoiceSimulator, PricingError, money
from pricing.definition import Price
from pricing.numbers import ZERO, plain
from pricing.price import read as read_price
from pricing.price import to_config
from webapp import csv_export, pages, wire
from webapp.pages import Visitor
from webapp.problems import ProblemError
from webapp.simulator import checking, form, presenters
from webapp.simulator.form import Form

blueprint = Blueprint("simulator", __name__, url_prefix="/simulator")

READ, WRITE = "simulations:read", "simulations:write"
MAX_PASTED = 64 * 1024


@blueprint.errorhandler(ProblemError)
def refuse(error: ProblemError) -> ResponseReturnValue:
    """A page's refusal is a page."""
    return pages.refused(error)


@blueprint.get("")
def home() -> ResponseReturnValue:
    """The whole page. `do`: what a button asks for, carried out and taken out of the address."""
    visitor = pages.visitor(READ)
    state = form.read(request.args)
    if action := request.args.get("do"):
        state = form.change(state, action)
        if not pages.is_partial():
            return redirect(visitor.link("/simulator", state.query()), code=303)
    response = show(visitor, state)
    if pages.is_partial():
        response.headers["HX-Replace-Url"] = visitor.link("/simulator", state.query())
    return response


@blueprint.get("/results")
def results() -> ResponseReturnValue:
    """The results and the mistakes beside the fields, for what is typed right now."""
    visitor = pages.visitor(READ)
    state = form.read(request.args)
    response = show(visitor, state, template="simulator/_live.html")
    response.headers["HX-Replace-Url"] = visitor.link("/simulator", state.query())
    return response


@blueprint.post("/read")
def read_stripe() -> ResponseReturnValue:
    """Fill one price's fields from a Stripe Price's JSON."""
    visitor = pages.visitor(READ)
    state = form.read(dict(parse_qsl(request.form.get("state", ""))))
    pasted, letter = request.form.get("json", ""), request.form.get("into", "a")
    if letter not in form.LETTERS:
        letter = "a"
    try:
        read = _pasted(pasted)
        read = _in_currency_of(read, state, letter)
        filled = form.of_price(letter, read, read.nickname or "")
    except (PricingError, ValueError) as error:
        mistake = f"{error}".strip()
        return show(visitor, state, status=422, pasted=pasted, into=letter, pasted_error=mistake)
    state = replace(state, currency=read.currency.code).with_price(filled)
    return redirect(visitor.link("/simulator", state.query()), code=303)


def _in_currency_of(price: Price, state: Form, letter: str) -> Price:
    """The price in the comparison's currency. Where it has none, it must be alone: the others'
    figures would silently become amounts of another currency."""
    is_alone = all(other.letter == letter for other in state.prices)
    if is_alone or price.currency.code == state.currency:
        return price
    try:
        return replace(price.in_currency(state.currency), nickname=price.nickname)
    except PricingError:
        raise ValueError(
            f"This price is in {price.currency.code.upper()} and the comparison in"
            f" {state.currency.upper()}: currencies are not mixed."
        ) from None


def _pasted(text: str) -> Price:
    if not text.strip():
        raise ValueError("Paste the JSON of a Stripe Price here.")
    if len(text) > MAX_PASTED:
        raise ValueError("This is more than 64 KiB: not a single Stripe Price.")
    try:
        given = json.loads(text, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"This is not JSON: {error}") from None
    try:
        wire.check_text(json.dumps(given, ensure_ascii=False))
    except ValidationError:
        raise ValueError("This holds characters that no text can hold.") from None
    return read_price(given)


@blueprint.get("/curve.csv")
def curve_csv() -> ResponseReturnValue:
    """Cost over usage, as the table below the plot has it, exact."""
    asked = _asked()
    prices = [price for _, price in asked.prices]
    up_to = asked.range or presenters.default_range(prices, asked.quantity)
    unit = prices[0].currency.code.upper()
    return _csv(
        "curve.csv",
        ["quantity", *(f"{title} ({unit})" for title, _ in asked.prices)],
        (
            [q, *(money.major(price.charge(q), price.currency) for price in prices)]
            for q in presenters.quantities(prices, asked.quantity, up_to)
        ),
    )


@blueprint.get("/invoice.csv")
def invoice_csv() -> ResponseReturnValue:
    """The invoice lines of every price at the quantity asked for."""
    asked = _asked()
    header = ["price", "line", "tier", "quantity", "unit price", "exact", "amount", "currency"]

    def rows() -> Iterable[list[object]]:
        for title, price in asked.prices:
            of = price.currency
            for part in price.parts(asked.quantity):
                tier = None if part.tier is None else part.tier + 1
                amounts = (part.unit_amount, part.exact, part.amount)
                figures = [money.major(each, of) for each in amounts]
                yield [title, part.kind, tier, part.quantity, *figures, of.code.upper()]

    return _csv("invoice.csv", header, rows())


@blueprint.get("/simulation.json")
def as_json() -> ResponseReturnValue:
    """The prices and what they cost, in the contract's form."""
    asked, simulate = _asked(), InvoiceSimulator().simulate
    quantity = plain(asked.quantity)
    described: list[dict[str, Any]] = []
    for title, price in asked.prices:
        config = to_config(price)
        item = {"metric": title[:100], "quantity": quantity, "priceConfig": config}
        result = simulate({"usageItems": [item]})
        described.append({"name": title, "priceConfig": config, "result": result})
    body = {
        "currency": asked.prices[0][1].currency.code,
        "quantity": quantity,
        "prices": described,
    }
    return wire.answer(
        body, headers={"Content-Disposition": 'attachment; filename="simulation.json"'}
    )


class _Asked(NamedTuple):
    """What is taken along: every price with its title, and none that has a mistake."""

    prices: list[tuple[str, Price]]
    quantity: Decimal
    range: Decimal | None


def _asked() -> _Asked:
    pages.visitor(READ)
    state = form.read(request.args)
    checked = checking.check(state)
    if checked.errors or not checked.prices:
        raise ProblemError(422, "Not everything here is complete; go back and mend what is marked.")
    prices = [(each.title, checked.prices[each.letter]) for each in state.prices]
    return _Asked(prices, checked.quantity or ZERO, checked.range)


def _csv(name: str, header: list[str], rows: Iterable[list[object]]) -> Response:
    return Response(
        csv_export.lines(header, rows),
        mimetype="text/csv",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def show(
    visitor: Visitor,
    state: Form,
    *,
    template: str = "simulator/page.html",
    status: int = 200,
    **more: object,
) -> Response:
    """Render the page, or a part of it."""
    checked = checking.check(state)
    return pages.render(
        template,
        status,
        visitor=visitor,
        form=state,
        errors=checked.errors,
        page=presenters.page(state, checked),
        query=state.query(),
        models=form.MODELS,
        currencies=[each.code for each in money.currencies()],
        **more,
    )
