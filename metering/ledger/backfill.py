"""Read a file of past usage into the ledger, chunk by chunk, each line exactly once.

A chunk's events, errors and place in the file are one transaction: wherever a process dies, the
next one goes on behind the last chunk that was committed. While Postgres takes in one chunk, a
thread makes out the next one: neither waits for the other.
"""

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import datetime
from types import TracebackType
from typing import Self

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from metering.database import blames_the_data
from metering.ledger import append, csv_file, ndjson_file
from metering.ledger.chunks import Chunk, FileError, Place, Reading, Refusal
from metering.ledger.models import Backfill

# About 1 MB, 5,000 to 15,000 events: large enough to share a transaction's cost, small enough to
# take a fraction of a second and, with the next one made out meanwhile, some 50 MB.
PARTS_A_CHUNK = 1
UNREAD = ("waiting", "running")
_READERS = {"csv": csv_file.read, "ndjson": ndjson_file.read}


class Reader:
    """Reads one backfill as long as it is told to; a context, for it has a thread.

    Several at once do no harm: the row of the backfill is locked by whoever reads a chunk of it.
    """

    def __init__(self, tenant_id: str, backfill_id: str) -> None:
        self._tenant_id, self._id = tenant_id, backfill_id
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="backfill")
        self._ahead: tuple[Place, Future[Chunk]] | None = None
        self._switched_every = sys.getswitchinterval()

    def __enter__(self) -> Self:
        # At the usual 5 ms a turn, a chunk would be half made out before the one at hand is sent.
        sys.setswitchinterval(0.0005)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown(cancel_futures=True)
        sys.setswitchinterval(self._switched_every)

    def advance(self, session: Session, *, now: datetime, careful: bool = False) -> bool:
        """Read the next chunk; False if none is left, or while another one reads.

        careful: single out the events that the database refuses. Without it such a refusal raises
                 DBAPIError (see `database.blames_the_data`), and nothing has happened.
        """
        found = _locked(session, self._tenant_id, self._id)
        if found is None:
            return False
        place = Place(
            found.parts_done, found.lines_done, bytes(found.rest or b""),
            bytes(found.header) if found.header is not None else None,
        )  # fmt: skip
        found.touched_at = now
        try:
            chunk = self._chunk(session, found, place, now)
        except FileError as error:
            _fail(session, found, str(error), now)
            return False
        self._look_ahead(session, found, chunk, now)
        _take(session, found, chunk, now, careful=careful)
        if found.parts_done < found.parts_received:
            found.state = "running"
        else:
            found.state, found.finished_at, found.rest = "done", now, None
        session.flush()
        return found.state == "running"

    def _chunk(self, session: Session, found: Backfill, place: Place, now: datetime) -> Chunk:
        """The chunk behind this place, made out already or not."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == place:
            return ahead[1].result()
        return _read(found.format, Reading(self._tenant_id, now), place,
                     *_body(session, found, place.parts))  # fmt: skip

    def _look_ahead(self, session: Session, found: Backfill, chunk: Chunk, now: datetime) -> None:
        if chunk.after.parts >= found.parts_received:
            return
        body = _body(session, found, chunk.after.parts)
        reading = Reading(self._tenant_id, now)
        future = self._thread.submit(_read, found.format, reading, chunk.after, *body)
        self._ahead = chunk.after, future


Step = Callable[[], AbstractContextManager[tuple[Session, datetime]]]


def advance(reader: Reader, step: Step) -> bool:
    """Read the next chunk in a transaction of its own, and if the database refuses an event of it,
    in another one that finds out which. step: opens a transaction at an instant."""
    try:
        with step() as (session, now):
            return reader.advance(session, now=now)
    except DBAPIError as error:
        if not blames_the_data(error):
            raise
    with step() as (session, now):
        return reader.advance(session, now=now, careful=True)


def _read(
    form: str, reading: Reading, place: Place, body: bytes, parts: int, is_last: bool
) -> Chunk:
    return _READERS[form](reading, place, body, is_last=is_last, parts=parts)


def _locked(session: Session, tenant_id: str, backfill_id: str) -> Backfill | None:
    """The backfill if it is to be read and nobody else is at it."""
    return session.scalar(
        select(Backfill)
        .where(
            Backfill.tenant_id == tenant_id,
            Backfill.backfill_id == backfill_id,
            Backfill.state.in_(UNREAD),
        )
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )


_BODY = """
SELECT body FROM backfill_parts
WHERE tenant_id = %(tenant_id)s AND backfill_id = %(id)s
  AND number > %(after)s AND number <= %(until)s
ORDER BY number
"""


def _body(session: Session, found: Backfill, after: int) -> tuple[bytes, int, bool]:
    """(the next bytes, how many parts they are, whether they are the last)."""
    until = min(after + PARTS_A_CHUNK, found.parts_received)
    parameters = {
        "tenant_id": found.tenant_id,
        "id": found.backfill_id,
        "after": after,
        "until": until,
    }
    bodies = session.connection().exec_driver_sql(_BODY, parameters).scalars().all()
    if len(bodies) != until - after:
        raise RuntimeError(f"parts of backfill {found.backfill_id} are missing behind {after}")
    return b"".join(bodies), until - after, until == found.parts_received


# Sorting so many events by their keys on disk would cost a fifth of the whole. A commit need not
# wait for the disk: should it be lost with the server, the chunk's parts are back with it, and it
# is read again. Only that a file is done is told once it is certain.
_SETTINGS = """
SELECT set_config('work_mem', '64MB', true), set_config('synchronous_commit', %(wait)s, true)
"""


def _take(session: Session, found: Backfill, chunk: Chunk, now: datetime, *, careful: bool) -> None:
    """Append what the chunk holds, write down what it does not, and forget its parts."""
    refusals = list(chunk.refusals)
    is_last = chunk.after.parts == found.parts_received
    if chunk.entries:
        session.connection().exec_driver_sql(_SETTINGS, {"wait": "on" if is_last else "off"})
        outcome = append.append(
            session, found.tenant_id, chunk.entries, now=now, careful=careful, late=found.late
        )
        found.accepted += outcome.added
        if outcome.added < len(chunk.entries):
            found.duplicates += outcome.statuses.count("duplicate")
            refusals += _refused(chunk, outcome)
    _write(session, found, refusals)
    found.failed += len(refusals)
    found.lines_done, found.parts_done = chunk.after.lines, chunk.after.parts
    found.rest, found.header = chunk.after.rest or None, chunk.after.header
    found.bytes_done += chunk.size
    parameters = {
        "tenant_id": found.tenant_id,
        "id": found.backfill_id,
        "until": chunk.after.parts,
    }
    session.connection().exec_driver_sql(_FORGET, parameters)


def _refused(chunk: Chunk, outcome: append.Outcome) -> list[Refusal]:
    """The lines whose events the ledger did not take."""
    before = len(chunk.refusals)
    for position, status in enumerate(outcome.statuses):
        if status == "conflict":
            chunk.refuse(chunk.lines[position], append.CONFLICT)
        elif status == "refused":
            reason = outcome.refusals[position]
            chunk.refuse(chunk.lines[position], f"could not be stored: {reason}")
    return chunk.refusals[before:]


_FORGET = """
DELETE FROM backfill_parts
WHERE tenant_id = %(tenant_id)s AND backfill_id = %(id)s AND number <= %(until)s
"""
# The rest of a file of many gigabytes goes by and by; see `installation.prune`.
_FORGET_SOME = """
DELETE FROM backfill_parts
WHERE tenant_id = %(tenant_id)s AND backfill_id = %(id)s AND number <= 1000
"""
_WRITE = """
INSERT INTO backfill_errors (tenant_id, backfill_id, line, message, excerpt)
SELECT %(tenant_id)s, %(id)s, line, message, excerpt
FROM unnest(%(lines)s::bigint[], %(messages)s::text[], %(excerpts)s::text[])
    AS refusal (line, message, excerpt)
"""


def _write(session: Session, found: Backfill, refusals: Sequence[Refusal]) -> None:
    if not refusals:
        return
    parameters = {
        "tenant_id": found.tenant_id,
        "id": found.backfill_id,
        "lines": [each.line for each in refusals],
        "messages": [each.message for each in refusals],
        "excerpts": [each.excerpt for each in refusals],
    }
    session.connection().exec_driver_sql(_WRITE, parameters)


def _fail(session: Session, found: Backfill, why: str, now: datetime) -> None:
    """The file cannot be read at all."""
    found.state, found.error, found.finished_at = "failed", why, now
    session.flush()
    parameters = {"tenant_id": found.tenant_id, "id": found.backfill_id}
    session.connection().exec_driver_sql(_FORGET_SOME, parameters)
