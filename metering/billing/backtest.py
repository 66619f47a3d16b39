"""Back-tests: what stored usage would have cost under other prices.

Every customer's counters are priced twice, in chunks of customers in byte order. A chunk is one
short transaction: the results of its customers, the summary and the cursor are committed together,
so that a crash between two chunks costs nothing and one within a chunk is as if it had not begun.
"""

import json
import secrets
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.orm import Session

from metering.billing import counted
from metering.billing import question as questions
from metering.billing.models import Backtest, BacktestResult
from metering.billing.question import Question
from metering.errors import ConflictError, InvalidInputError, NotFoundError
from pricing import backtest as engine
from pricing.backtest import Outcome, Summary
from pricing.errors import PricingError

MAX_NAME = 200
# Ended ones hold a row per customer until they are deleted.
MAX_KEPT = 100
# So many of a tenant's may wait or run at once; the queue is everybody's.
MAX_UNENDED = 20
# Jobs that began without finishing a single chunk, after which something is wrong for good.
MAX_ATTEMPTS = 10
CHUNK_CUSTOMERS = 2_000
CHUNK_ROWS = 24_000
# Counting beyond would cost more than the figure is worth; progress then shows no share.
COUNTED_TO = 200_000
UNENDED = ("queued", "running")


def create(
    session: Session,
    tenant_id: str,
    question: Question,
    *,
    name: str,
    created_by: str,
    now: datetime,
    backtest_id: str | None = None,
) -> Backtest:
    """Write the question down; jobs answer it. ConflictError where too many are kept or waiting."""
    if not name or len(name) > MAX_NAME or "\x00" in name:
        raise InvalidInputError(
            f"a name has 1 to {MAX_NAME} characters and no NUL", pointer="/name"
        )
    _check_room(session, tenant_id)
    made = Backtest(
        tenant_id=tenant_id,
        id=backtest_id or secrets.token_urlsafe(12),
        name=name,
        question=question.text(),
        currency=question.currency,
        created_by=created_by,
        created_at=now,
        updated_at=now,
    )
    session.add(made)
    session.flush()
    session.refresh(made)
    return made


def get(session: Session, tenant_id: str, backtest_id: str) -> Backtest:
    """The back-test, or NotFoundError."""
    found = session.scalar(
        select(Backtest).where(Backtest.tenant_id == tenant_id, Backtest.id == backtest_id)
    )
    if found is None:
        raise NotFoundError(f"there is no back-test {backtest_id!r}")
    return found


def listed(
    session: Session, tenant_id: str, *, after: tuple[datetime, str] | None = None, limit: int = 25
) -> Sequence[Backtest]:
    """The tenant's back-tests, the newest first; those beyond `after`."""
    statement = select(Backtest).where(Backtest.tenant_id == tenant_id)
    if after is not None:
        statement = statement.where(tuple_(Backtest.created_at, Backtest.id) < after)
    newest = (Backtest.created_at.desc(), Backtest.id.desc())
    return session.scalars(statement.order_by(*newest).limit(limit)).all()


def cancel(session: Session, tenant_id: str, backtest_id: str, *, now: datetime) -> bool:
    """Stop a back-test that has not ended and drop what it found; False if it had ended."""
    found = _locked(session, tenant_id, backtest_id, skip=False)
    if found is None:
        get(session, tenant_id, backtest_id)
        return False
    _end(session, found, "cancelled", now=now)
    return True


def forget(session: Session, tenant_id: str, backtest_id: str) -> None:
    """Delete a back-test and its results."""
    found = get(session, tenant_id, backtest_id)
    _drop_results(session, found)
    session.delete(found)
    session.flush()


def begin(session: Session, tenant_id: str, backtest_id: str, *, now: datetime) -> bool:
    """Note that a job takes the back-test up; False if there is nothing to do for it."""
    found = _locked(session, tenant_id, backtest_id, skip=True)
    if found is None:
        return False
    found.attempts += 1
    found.updated_at = now
    if found.attempts > MAX_ATTEMPTS:
        reason = f"{MAX_ATTEMPTS} attempts ended before anything was done; the log says why"
        _end(session, found, "failed", now=now, error=reason)
        return False
    if found.customers_total is None:
        total, _ = counted.next_customers(session, tenant_id, "", COUNTED_TO)
        found.customers_total = total
    found.state = "running"
    session.flush()
    return True


def advance(session: Session, tenant_id: str, backtest_id: str, *, now: datetime) -> bool:
    """Answer for the next chunk of customers; False if none is left, or for another job to do."""
    found = _locked(session, tenant_id, backtest_id, skip=True)
    if found is None:
        return False
    question = questions.read(found.question)
    rows_each = len(question.months) * len(question.metrics) * question.weight
    most = max(1, min(CHUNK_CUSTOMERS, CHUNK_ROWS // rows_each))
    passed, last = counted.next_customers(session, tenant_id, found.cursor, most)
    summary = Summary.from_json(json.loads(found.summary)) if found.summary else Summary()
    if passed:
        try:
            usage = counted.of_customers(session, tenant_id, question, found.cursor, last)
            outcomes = list(engine.reprice(usage, question.pairs()))
        except PricingError as error:
            _end(session, found, "failed", now=now, error=str(error))
            return False
        _write(session, found, outcomes)
        for outcome in outcomes:
            summary.add(outcome)
        found.cursor = last
        found.customers_done += passed
    found.summary = json.dumps(summary.to_json())
    found.attempts = 0
    found.updated_at = now
    if passed < most:
        found.state, found.ended_at = "done", now
    session.flush()
    return passed == most


def summary(found: Backtest) -> Summary:
    """What the customers that are done come to."""
    return Summary.from_json(json.loads(found.summary)) if found.summary else Summary()


def _locked(session: Session, tenant_id: str, backtest_id: str, *, skip: bool) -> Backtest | None:
    """The back-test if it has not ended, locked; None also if `skip` and another holds it."""
    return session.scalar(
        select(Backtest)
        .where(
            Backtest.tenant_id == tenant_id, Backtest.id == backtest_id, Backtest.ended_at.is_(None)
        )
        .with_for_update(skip_locked=skip)
        .execution_options(populate_existing=True)
    )


def _end(
    session: Session, found: Backtest, state: str, *, now: datetime, error: str | None = None
) -> None:
    """End it without an answer: half of one would be taken for the whole."""
    _drop_results(session, found)
    found.state, found.error, found.summary = state, error, None
    found.updated_at = found.ended_at = now
    session.flush()


def _drop_results(session: Session, found: Backtest) -> None:
    session.execute(
        delete(BacktestResult).where(
            BacktestResult.tenant_id == found.tenant_id, BacktestResult.backtest_id == found.id
        )
    )


def _check_room(session: Session, tenant_id: str) -> None:
    kept, unended = session.execute(
        select(func.count(), func.count().filter(Backtest.ended_at.is_(None))).where(
            Backtest.tenant_id == tenant_id
        )
    ).one()
    if unended >= MAX_UNENDED:
        raise ConflictError(f"{unended} back-tests wait or run already; let one end or cancel it")
    if kept >= MAX_KEPT:
        raise ConflictError(f"{kept} back-tests are kept, as many as may be; delete an old one")


_WRITE = """
INSERT INTO backtest_results
    (tenant_id, backtest_id, customer_ref, periods, before, after, change)
SELECT %(tenant_id)s, %(backtest_id)s, r, p, b, a, a - b
FROM unnest(%(refs)s::text[], %(periods)s::int[], %(before)s::numeric[], %(after)s::numeric[])
    AS outcome(r, p, b, a)
"""


def _write(session: Session, found: Backtest, outcomes: Sequence[Outcome]) -> None:
    if not outcomes:
        return
    parameters = {
        "tenant_id": found.tenant_id,
        "backtest_id": found.id,
        "refs": [each.customer for each in outcomes],
        "periods": [each.periods for each in outcomes],
        "before": [each.before for each in outcomes],
        "after": [each.after for each in outcomes],
    }
    session.connection().exec_driver_sql(_WRITE, parameters)
