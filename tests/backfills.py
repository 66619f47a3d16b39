"""Files of usage for tests: made, received and read without a web or a worker."""

from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from metering.database import unit_of_work
from metering.ledger import backfills, uploads
from metering.ledger.backfill import Reader
from metering.ledger.models import Backfill

HEADER = "metric,customerRef,quantity,ts,idempotencyKey"
TS = "2026-10-01T00:00:00Z"


def line(i: int, quantity: object = 1, *, key: str | None = None) -> str:
    """A good line of a file that begins with `HEADER`."""
    return f"api_calls,cus_{i % 3},{quantity},{TS},{f'k{i}' if key is None else key}\n"


def csv_of(count: int) -> bytes:
    return f"{HEADER}\n{''.join(line(i) for i in range(count))}".encode()


def received(
    session: Session, tenant: str, body: bytes, form: str = "csv", *, late: str = "count"
) -> str:
    """A file that has come whole, in parts as small as `uploads.PART_BYTES` says; its id."""
    now = datetime.now(UTC)
    with unit_of_work(session):
        wanted = uploads.Wanted(form, "a test", late)
        made = uploads.create(session, tenant, wanted, actor="test", now=now)
        backfill_id, size = made.backfill_id, uploads.PART_BYTES
        for at in range(0, len(body), size):
            part = body[at : at + size]
            uploads.append(session, tenant, backfill_id, at, part, now=now)
        uploads.complete(session, tenant, backfill_id, len(body), now=now)
    return backfill_id


def read(session: Session, tenant: str, backfill_id: str) -> Backfill:
    """Read the file to its end; what has become of it."""
    with Reader(tenant, backfill_id) as reader:
        more = True
        while more:
            with unit_of_work(session):
                more = reader.advance(session, now=datetime.now(UTC))
    return found(session, tenant, backfill_id)


def found(session: Session, tenant: str, backfill_id: str) -> Backfill:
    session.rollback()
    session.expire_all()
    return uploads.get(session, tenant, backfill_id)


def counts(of: Backfill) -> tuple[int, int, int]:
    return of.accepted, of.duplicates, of.failed


def refused(session: Session, tenant: str, backfill_id: str) -> dict[int, str]:
    """Why, by line."""
    errors = backfills.every_error(session, tenant, backfill_id)
    return {each.line: each.message for each in errors}


def parts_left(session: Session, tenant: str, backfill_id: str) -> int:
    statement = "SELECT count(*) FROM backfill_parts WHERE tenant_id = :t AND backfill_id = :b"
    left: int = session.execute(text(statement), {"t": tenant, "b": backfill_id}).scalar_one()
    session.rollback()
    return left
