"""What has become of files of past usage: lists of them, and of the lines that were refused."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from metering.ledger.models import Backfill, BackfillError

_PAGE = 1000


def listed(
    session: Session, tenant_id: str, *, after: tuple[datetime, str] | None = None, limit: int = 25
) -> Sequence[Backfill]:
    """The tenant's backfills, the newest first; those beyond `after`."""
    statement = select(Backfill).where(Backfill.tenant_id == tenant_id)
    if after is not None:
        statement = statement.where(tuple_(Backfill.created_at, Backfill.backfill_id) < after)
    newest = (Backfill.created_at.desc(), Backfill.backfill_id.desc())
    return session.scalars(statement.order_by(*newest).limit(limit)).all()


def errors(
    session: Session, tenant_id: str, backfill_id: str, *, after_line: int = 0, limit: int = 100
) -> Sequence[BackfillError]:
    """The refused lines behind `after_line`, by their number."""
    return session.scalars(
        select(BackfillError)
        .where(
            BackfillError.tenant_id == tenant_id,
            BackfillError.backfill_id == backfill_id,
            BackfillError.line > after_line,
        )
        .order_by(BackfillError.line)
        .limit(limit)
    ).all()


def every_error(session: Session, tenant_id: str, backfill_id: str) -> Iterator[BackfillError]:
    """All refused lines, read page by page, each page in a transaction of its own."""
    after_line = 0
    while True:
        page = errors(session, tenant_id, backfill_id, after_line=after_line, limit=_PAGE)
        yield from page
        if len(page) < _PAGE:
            return
        after_line = page[-1].line
        session.expunge_all()
        session.rollback()
