"""/v1/simulations/backtests: what real usage would have cost under other prices."""

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from flask import Blueprint, Response, g, stream_with_context
from sqlalchemy.orm import Session

from metering.billing import backtest, outcomes, question
from metering.billing.models import Backtest, BacktestResult
from metering.billing.question import Wanted
from metering.catalog import customers
from metering.database import after_commit, unit_of_work
from metering.errors import ConflictError
from pricing import money
from webapp import auth, csv_export, cursor, runtime, wire
from webapp.catalog.schemas import TenantQuerySchema
from webapp.endpoint import Contract, endpoint
from webapp.extensions import db
from webapp.simulations import months, presenters, repetition
from webapp.simulations.backtest_schemas import (
    AffectedAnswerSchema,
    AffectedQuerySchema,
    BacktestsAnswerSchema,
    BacktestSchema,
    BacktestsQuerySchema,
    NewBacktestSchema,
)
from webapp.simulations.views import checked

blueprint = Blueprint("backtests", __name__, url_prefix="/v1/simulations/backtests")


@blueprint.post("")
@endpoint(
    Contract(
        summary="Ask what usage would have cost",
        scope="simulations:write",
        body=NewBacktestSchema,
        answer=BacktestSchema,
        answer_status=201,
        statuses=(400, 401, 403, 404, 409, 413, 415, 422),
        tag="Back-tests",
        headers={"Idempotency-Key": "a repetition is answered with what the first request made"},
    )
)
def ask(tenant_id: str, body: dict[str, Any]) -> Response:
    """Every customer's stored usage is priced twice by a job; ask for the id until it is done.
    Months in which a customer used nothing are left out of both sides. All prices must be of one
    currency."""
    wanted = [Wanted(each["metric"], each["baseline"], each["candidate"])
              for each in body["metrics"]]  # fmt: skip
    with unit_of_work(db.session()) as session:
        auth.ensure_tenant(session, tenant_id)
        made = repetition.claim(session, tenant_id, "ask-backtest", body, now=g.now)
        if made.is_new:
            start(
                session,
                tenant_id,
                wanted,
                months.asked(body),
                name=body["name"],
                backtest_id=made.id,
            )
        found = backtest.get(session, tenant_id, made.id)
        answer = _answer(session, found)
    return wire.answer(answer, 201)


def start(
    session: Session,
    tenant_id: str,
    wanted: Sequence[Wanted],
    wanted_months: Sequence[str],
    *,
    name: str,
    backtest_id: str | None = None,
) -> Backtest:
    """Write the question down, and have it answered once that is committed."""
    made = backtest.create(
        session,
        tenant_id,
        question.freeze(session, tenant_id, wanted, wanted_months),
        name=name,
        created_by=auth.principal().actor,
        now=g.now,
        backtest_id=backtest_id,
    )
    hints, made_id = runtime.current().hints, made.id
    after_commit(session, lambda: hints.answer_backtest(tenant_id, made_id))
    return made


@blueprint.get("")
@endpoint(
    Contract(
        summary="List back-tests",
        scope="simulations:read",
        query=BacktestsQuerySchema,
        answer=BacktestsAnswerSchema,
        statuses=(401, 403, 422),
        tag="Back-tests",
    )
)
def list_backtests(tenant_id: str, query: dict[str, Any]) -> Response:
    """The newest first, without their answers."""
    after = cursor.read_place(query["cursor"]) if "cursor" in query else None
    limit = query["limit"]
    found = backtest.listed(db.session(), tenant_id, after=after, limit=limit + 1)
    last = found[limit - 1] if len(found) > limit else None
    return wire.answer(
        {
            "backtests": [presenters.listed(each) for each in found[:limit]],
            "nextCursor": cursor.write((last.created_at, last.id)) if last else None,
        }
    )


@blueprint.get("/<backtest_id>")
@endpoint(
    Contract(
        summary="Read a back-test",
        scope="simulations:read",
        query=TenantQuerySchema,
        answer=BacktestSchema,
        statuses=(401, 403, 404, 422),
        tag="Back-tests",
    )
)
def read(backtest_id: str, tenant_id: str, query: dict[str, Any]) -> Response:
    """How far it is, and the answer once there is one."""
    session = db.session()
    return wire.answer(_answer(session, backtest.get(session, tenant_id, checked(backtest_id))))


@blueprint.delete("/<backtest_id>")
@endpoint(
    Contract(
        summary="Cancel a back-test, or forget one that has ended",
        scope="simulations:write",
        query=TenantQuerySchema,
        answer_status=204,
        statuses=(401, 403, 404, 422),
        tag="Back-tests",
    )
)
def end(backtest_id: str, tenant_id: str, query: dict[str, Any]) -> Response:
    """One that waits or runs is stopped and stays in the list as cancelled; one that has ended is
    deleted with its results."""
    checked(backtest_id)
    with unit_of_work(db.session()) as session:
        if not backtest.cancel(session, tenant_id, backtest_id, now=g.now):
            backtest.forget(session, tenant_id, backtest_id)
    return Response(status=204)


@blueprint.get("/<backtest_id>/customers")
@endpoint(
    Contract(
        summary="Page through the customers of a back-test",
        scope="simulations:read",
        query=AffectedQuerySchema,
        answer=AffectedAnswerSchema,
        statuses=(401, 403, 404, 409, 422),
        tag="Back-tests",
    )
)
def list_customers(backtest_id: str, tenant_id: str, query: dict[str, Any]) -> Response:
    """By customer, or the largest increase or decrease first."""
    session, order, limit = db.session(), query["order"], query["limit"]
    found = ended_well(session, tenant_id, backtest_id)
    after = _place(query["cursor"], order) if "cursor" in query else None
    rows = outcomes.page(session, tenant_id, backtest_id, order=order, after=after, limit=limit + 1)
    page, last = rows[:limit], rows[limit - 1] if len(rows) > limit else None
    names = customers.found(session, tenant_id, [row.customer_ref for row in page])
    of = money.currency(found.currency)
    return wire.answer(
        {
            "currency": found.currency,
            "customers": [presenters.outcome(row, of, names) for row in page],
            "nextCursor": cursor.write(outcomes.place(last, order)) if last else None,
        }
    )


@blueprint.get("/<backtest_id>/export.csv")
@endpoint(
    Contract(
        summary="Download the customers of a back-test",
        scope="simulations:read",
        query=TenantQuerySchema,
        statuses=(401, 403, 404, 409, 422),
        tag="Back-tests",
        media_type="text/csv",
    )
)
def export(backtest_id: str, tenant_id: str, query: dict[str, Any]) -> Response:
    """All of them as CSV, by customer; a text that a spreadsheet would take for a formula begins
    with an apostrophe."""
    return csv_of(db.session(), ended_well(db.session(), tenant_id, backtest_id))


def csv_of(session: Session, found: Backtest) -> Response:
    """The file, read and sent page by page."""
    of, name = money.currency(found.currency), f"backtest-{found.id}.csv"
    rows = outcomes.every(session, found.tenant_id, found.id)
    lines = csv_export.lines(presenters.CSV_HEADER, presenters.csv_rows(rows, of))
    return Response(
        stream_with_context(csv_export.closing(session, lines)),
        mimetype="text/csv",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def ended_well(session: Session, tenant_id: str, backtest_id: str) -> Backtest:
    """The back-test, if it is done; ConflictError if not: a part is not the answer."""
    found = backtest.get(session, tenant_id, checked(backtest_id))
    if found.state != "done":
        raise ConflictError(f"this back-test is {found.state}; it has an answer once it is done")
    return found


def affected(session: Session, found: Backtest) -> tuple[Sequence[BacktestResult], Any]:
    """Whom it touches most, and what they are called; nobody before it is done."""
    if found.state != "done":
        return [], {}
    top = outcomes.most_affected(session, found.tenant_id, found.id)
    return top, customers.found(session, found.tenant_id, [row.customer_ref for row in top])


def _answer(session: Session, found: Backtest) -> dict[str, Any]:
    return presenters.listed(found) | {
        "result": presenters.result(found, *affected(session, found))
    }


def _place(text: str, order: str) -> tuple[object, ...]:
    if order == "customer":
        return tuple(cursor.read(text, 1))
    change, ref = cursor.read(text, 2)
    try:
        number = Decimal(change)
    except InvalidOperation:
        raise cursor.refused() from None
    if not number.is_finite() or abs(number.adjusted()) > 200:
        raise cursor.refused()
    return number, ref
