"""A file of past usage while it is received: in parts, each committed as it comes.

Nothing of it is read before it has come whole. A connection that breaks leaves a file that can be
continued from the byte at which it broke.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from metering.errors import ConflictError, InvalidInputError, NotFoundError
from metering.ledger.models import Backfill

PART_BYTES = 1024 * 1024
FORMATS = ("csv", "ndjson")
LATE = ("count", "set_aside")
RECEIVING = ("receiving", "incomplete")


@dataclass(frozen=True)
class Wanted:
    """What is to be imported, why, and what is to become of what is late."""

    format: str
    reason: str
    late: str = "count"
    file_name: str | None = None


def create(
    session: Session,
    tenant_id: str,
    wanted: Wanted,
    *,
    actor: str,
    now: datetime,
    backfill_id: str | None = None,
) -> Backfill:
    """Begin to receive a file."""
    if not wanted.reason.strip():
        raise InvalidInputError("say why the usage is imported", pointer="/reason")
    made = Backfill(
        tenant_id=tenant_id,
        backfill_id=backfill_id or secrets.token_urlsafe(12),
        format=wanted.format,
        state="receiving",
        late=wanted.late,
        reason=wanted.reason,
        actor=actor,
        file_name=wanted.file_name,
        created_at=now,
        touched_at=now,
    )
    session.add(made)
    session.flush()
    return made


def get(session: Session, tenant_id: str, backfill_id: str) -> Backfill:
    """The tenant's backfill. Raises NotFoundError."""
    found = session.scalar(_one(tenant_id, backfill_id))
    if found is None:
        raise NotFoundError("there is no such backfill")
    return found


def open_at(
    session: Session, tenant_id: str, backfill_id: str, offset: int, *, now: datetime
) -> Backfill:
    """The backfill, locked, if its file goes on at this byte.

    Raises: ConflictError naming the byte at which it goes on, or that it has come whole.
    """
    found = session.scalar(
        _one(tenant_id, backfill_id).with_for_update().execution_options(populate_existing=True)
    )
    if found is None:
        raise NotFoundError("there is no such backfill")
    if found.state not in RECEIVING:
        raise ConflictError("this file has been received whole; nothing can be appended to it")
    if found.bytes_received != offset:
        raise ConflictError(
            f"{found.bytes_received} bytes of this file have been received: continue with"
            f" offset={found.bytes_received}",
            pointer="/offset",
        )
    found.state, found.error, found.touched_at = "receiving", None, now
    return found


def append(
    session: Session, tenant_id: str, backfill_id: str, offset: int, body: bytes, *, now: datetime
) -> int:
    """Keep the next stretch of the file; the byte at which it goes on. Raises ConflictError."""
    found = open_at(session, tenant_id, backfill_id, offset, now=now)
    if not body:
        return offset
    found.parts_received += 1
    found.bytes_received += len(body)
    parameters = {
        "tenant_id": tenant_id,
        "id": backfill_id,
        "number": found.parts_received,
        "body": body,
    }
    session.connection().exec_driver_sql(_KEEP, parameters)
    session.flush()
    return found.bytes_received


def complete(
    session: Session, tenant_id: str, backfill_id: str, offset: int, *, now: datetime
) -> Backfill:
    """The file has come whole: it waits to be read."""
    found = open_at(session, tenant_id, backfill_id, offset, now=now)
    found.state = "waiting"
    session.flush()
    return found


def interrupt(session: Session, tenant_id: str, backfill_id: str, *, now: datetime) -> None:
    """The connection broke: say so, and how to go on."""
    found = session.scalar(
        _one(tenant_id, backfill_id).with_for_update().execution_options(populate_existing=True)
    )
    # Another connection may have gone on with it, and have come to its end.
    if found is None or found.state != "receiving":
        return
    found.state, found.touched_at = "incomplete", now
    found.error = (
        f"The upload broke off after {found.bytes_received} bytes. Nothing of the file was read:"
        f" send the rest with offset={found.bytes_received}, or the whole file again."
    )
    session.flush()


def kept(session: Session, tenant_id: str, backfill_id: str, number: int) -> bytes | None:
    """A part of the file as long as it has not been read; the first one is number 1."""
    parameters = {"tenant_id": tenant_id, "id": backfill_id, "number": number}
    found = session.connection().exec_driver_sql(_KEPT, parameters).scalar()
    return None if found is None else bytes(found)


def _one(tenant_id: str, backfill_id: str) -> Select[Backfill]:
    return select(Backfill).where(
        Backfill.tenant_id == tenant_id, Backfill.backfill_id == backfill_id
    )


_KEEP = """
INSERT INTO backfill_parts (tenant_id, backfill_id, number, body)
VALUES (%(tenant_id)s, %(id)s, %(number)s, %(body)b)
"""
_KEPT = """
SELECT body FROM backfill_parts
WHERE tenant_id = %(tenant_id)s AND backfill_id = %(id)s AND number = %(number)s
"""
