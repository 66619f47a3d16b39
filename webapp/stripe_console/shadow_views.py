"""The console's page that holds live, shadow and our own counters beside each other."""

import re
from datetime import timedelta
from urllib.parse import urlencode

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from metering.catalog import customers
from metering.catalog.period import Span, calendar_month
from metering.errors import DomainError
from metering.stripe import shadow
from webapp import cursor, pages
from webapp.extensions import db
from webapp.problems import ProblemError
from webapp.stripe_console import comparison
from webapp.stripe_console.views import refuse, refuse_of_core
from webapp.stripe_state.schemas import MONTH
from webapp.stripe_state.views import READ, month_of, read_row_place

blueprint = Blueprint("shadow_console", __name__, url_prefix="/console/stripe/shadow")
blueprint.register_error_handler(ProblemError, refuse)
blueprint.register_error_handler(DomainError, refuse_of_core)

PAGE = "/console/stripe/shadow"
CSV = "/v1/stripe/shadow-report.csv"
ROWS = 50
_MISTAKE = "This is no month; write it like 2026-11."


@blueprint.get("")
def report() -> ResponseReturnValue:
    """The sentence, the metrics' sums, where they are apart, then all rows."""
    visitor = pages.visitor(READ)
    typed = request.args.get("period", "").strip()
    if typed and not re.fullmatch(MONTH, typed):
        return _page(visitor=visitor, typed=typed, error=_MISTAKE, status=422)
    session, month = db.session(), month_of(typed or None)
    after = read_row_place(request.args["after"]) if request.args.get("after") else None
    rows = shadow.page(session, visitor.tenant_id, month, after=after, limit=ROWS + 1)
    overall = shadow.overall(shadow.every(session, visitor.tenant_id, month))
    shown, more = rows[:ROWS], len(rows) > ROWS
    names = customers.found(session, visitor.tenant_id, comparison.refs([*shown, *overall.apart]))
    asked, before, later = f"{month.start_at:%Y-%m}", _month(month, -1), _month(month, 1)

    def address(path: str, **query: str | None) -> str:
        given = {name: value for name, value in query.items() if value is not None}
        return visitor.link(path, urlencode(given))

    return _page(
        visitor=visitor,
        typed=asked,
        month=f"{month.start_at:%B %Y}",
        previous=address(PAGE, period=before) if before else None,
        following=address(PAGE, period=later) if later else None,
        csv=address(CSV, period=asked),
        first=address(PAGE, period=asked) if after else None,
        next=address(PAGE, period=asked, after=cursor.write(shown[-1].place)) if more else None,
        sentence=comparison.sentence(overall),
        modes=comparison.MODES if comparison.is_live(overall) else comparison.MODES[1:],
        rest=comparison.rest(overall),
        partial=comparison.partial(overall),
        sums=comparison.sums(overall),
        apart=[comparison.row(each, names) for each in overall.apart],
        rows=[comparison.row(each, names) for each in shown],
    )


def _page(*, status: int = 200, error: str = "", **context: object) -> ResponseReturnValue:
    errors = {"period": error} if error else {}
    return pages.render("stripe_console/shadow.html", status, errors=errors, **context)


def _month(of: Span, by: int) -> str | None:
    """The month before or after, where it can be asked for."""
    beside = of.end_at if by > 0 else of.start_at - timedelta(seconds=1)
    month = f"{calendar_month(beside).start_at:%Y-%m}"
    return month if re.fullmatch(MONTH, month) else None
