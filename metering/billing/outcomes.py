"""What a back-test found, customer by customer: pages, and those whom it would touch most."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from metering.billing.models import BacktestResult

MOST_AFFECTED = 20
ORDERS = ("customer", "increase", "decrease")
# Where a page ended: the customer, before it the change where that is what the order goes by.
Place = Sequence[Any]


def page(
    session: Session,
    tenant_id: str,
    backtest_id: str,
    *,
    order: str = "customer",
    after: Place | None = None,
    limit: int = 100,
) -> Sequence[BacktestResult]:
    """Results by customer, or the largest increase or decrease first; those beyond `after`."""
    row = BacktestResult
    by = tuple_(row.change, row.customer_ref)
    sorting: list[Any] = [row.change, row.customer_ref]
    if order == "customer":
        by, sorting = tuple_(row.customer_ref), [row.customer_ref]
    statement = select(row).where(row.tenant_id == tenant_id, row.backtest_id == backtest_id)
    if order == "increase":
        sorting = [each.desc() for each in sorting]
    if after is not None:
        statement = statement.where(by < after if order == "increase" else by > after)
    return session.scalars(statement.order_by(*sorting).limit(limit)).all()


def place(result: BacktestResult, order: str) -> tuple[Any, ...]:
    """Where a page that ends with this result goes on."""
    ref = result.customer_ref
    return (ref,) if order == "customer" else (result.change, ref)


def every(
    session: Session, tenant_id: str, backtest_id: str, *, size: int = 2_000
) -> Iterator[BacktestResult]:
    """All results by customer, read in pages; no transaction stays open between two."""
    after: Place | None = None
    while True:
        rows = page(session, tenant_id, backtest_id, after=after, limit=size)
        for row in rows:
            session.expunge(row)
        session.rollback()
        yield from rows
        if len(rows) < size:
            return
        after = place(rows[-1], "customer")


def most_affected(session: Session, tenant_id: str, backtest_id: str) -> list[BacktestResult]:
    """Those whose amount changes most in either direction, the greatest change first."""
    both = [
        row
        for order in ("increase", "decrease")
        for row in page(session, tenant_id, backtest_id, order=order, limit=MOST_AFFECTED)
    ]
    distinct = {row.customer_ref: row for row in both if row.change}
    ranked = sorted(distinct.values(), key=lambda row: (-abs(row.change), row.customer_ref))
    return ranked[:MOST_AFFECTED]
