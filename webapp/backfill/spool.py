"""Keep a file as it comes in: each part committed before the next one is waited for."""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy.orm import Session

from metering.database import after_commit, unit_of_work
from metering.errors import InvalidInputError
from metering.ledger import uploads
from metering.ledger.models import Backfill
from webapp.backfill.stream import Source

Clock = Callable[[], datetime]


def keep(
    session: Session,
    found: Backfill,
    source: Source,
    *,
    clock: Clock,
    whole: Callable[[], object],
) -> str | None:
    """Append the source to the file; why it broke off, or None if it came whole.

    whole: called once it is known to have come whole.
    """
    tenant_id, backfill_id, offset = found.tenant_id, found.backfill_id, found.bytes_received
    session.rollback()  # no transaction waits for the sender
    while part := source.read(uploads.PART_BYTES):
        with unit_of_work(session):
            offset = uploads.append(session, tenant_id, backfill_id, offset, part, now=clock())
    with unit_of_work(session):
        if source.broken is not None:
            uploads.interrupt(session, tenant_id, backfill_id, now=clock())
            return source.broken
        uploads.complete(session, tenant_id, backfill_id, offset, now=clock())
        after_commit(session, whole)
    return None


def pass_over(session: Session, found: Backfill, source: Source) -> None:
    """Read past what was received of the same file before.

    Raises: InvalidInputError if it is another file.
    """
    tenant_id, backfill_id = found.tenant_id, found.backfill_id
    for number in range(1, found.parts_received + 1):
        part = uploads.kept(session, tenant_id, backfill_id, number)
        session.rollback()
        if part is not None and source.read(len(part)) != part and source.broken is None:
            raise InvalidInputError(
                "this Idempotency-Key was used with another file; nothing was written",
                pointer="/Idempotency-Key",
            )
        if source.broken is not None:
            return
