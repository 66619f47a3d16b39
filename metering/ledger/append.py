"""Append usage events to the ledger, each exactly once.

The good case is one statement. What was already there is told apart in a second one, for the
keys concerned only; a row that the database refuses is found by halving, under savepoints.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from metering.database import blames_the_data

CONFLICT = "idempotency key was already used for another event"


class Entry(
    msgspec.Struct,
    rename={
        "idempotency_key": "k",
        "metric": "m",
        "customer_ref": "c",
        "resource_id": "r",
        "quantity": "q",
        "occurred_at": "t",
        "meta": "x",
        "source": "s",
    },
):
    """A validated event on its way into the ledger; the short names are the statement's.

    quantity: a plain decimal number, its digits as the sender wrote them, >= 0.
    occurred_at: ISO 8601 with offset, at most microseconds.  meta: a JSON object's own text.
    """

    idempotency_key: str
    metric: str
    customer_ref: str
    quantity: msgspec.Raw
    occurred_at: str
    resource_id: str | None = None
    meta: msgspec.Raw | None = None
    source: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of each entry, in the order given.

    statuses: "accepted", "duplicate", "conflict" (the key holds other content) or "refused".
    refusals: the database's reason by position, for the refused ones.
    """

    statuses: list[str]
    refusals: dict[int, str]

    @property
    def added(self) -> int:
        return self.statuses.count("accepted")


# Rows go in by key order: two batches holding the same keys in opposite order would otherwise
# wait for each other. `queued` makes the event and its place in the queue one fact.
_APPEND = """
WITH added AS (
    INSERT INTO events (tenant_id, idempotency_key, metric, customer_ref, resource_id,
                        quantity, occurred_at, recorded_at, meta, source)
    SELECT %(tenant_id)s, k, m, c, r, q, t, %(now)s, x, s
    FROM json_to_recordset(%(entries)s::json)
        AS entry(k text, m text, c text, r text, q numeric, t timestamptz, x json, s text)
    ORDER BY k COLLATE "C"
    ON CONFLICT (tenant_id, idempotency_key) DO NOTHING
    RETURNING idempotency_key
), queued AS (
    INSERT INTO unfolded (tenant_id, recorded_at, idempotency_key, late)
    SELECT %(tenant_id)s, %(now)s, idempotency_key, %(late)s::text FROM added
)
SELECT count(*), CASE WHEN count(*) < %(expected)s THEN array_agg(idempotency_key) END FROM added
"""

# meta and source are no part of an event's identity: a retry may carry a new trace id.
# LATERAL with OFFSET 0 ties the ledger to its primary key: on a table not yet analysed the
# planner would read the whole tenant instead.
# What is *not* the same is asked for: of a retried batch that is nothing.
_COMPARE = """
SELECT array_agg(entry.i)
FROM ROWS FROM (json_to_recordset(%(entries)s::json)
                 AS (k text, m text, c text, r text, q numeric, t timestamptz))
     WITH ORDINALITY AS entry(k, m, c, r, q, t, i)
LEFT JOIN LATERAL (
    SELECT metric, customer_ref, quantity, occurred_at, resource_id FROM events
    WHERE tenant_id = %(tenant_id)s AND idempotency_key = entry.k OFFSET 0
) AS e ON true
WHERE (e.metric = entry.m AND e.customer_ref = entry.c AND e.quantity = entry.q
       AND e.occurred_at = entry.t AND e.resource_id IS NOT DISTINCT FROM entry.r) IS NOT TRUE
"""

_PROBE = "SELECT 1 FROM events WHERE tenant_id = %(tenant_id)s AND idempotency_key = %(key)s"

# Below this many events the probe costs more than a wrong guess.
RETRY_LOOKED_FOR_FROM = 20


def append(
    session: Session,
    tenant_id: str,
    entries: Sequence[Entry],
    *,
    now: datetime,
    careful: bool = False,
    late: str | None = None,
) -> Outcome:
    """Append a batch; on return each entry is in the ledger, or its status says why not.

    A key that stands twice in the batch is the first one's; the second is compared with it.

    careful: work under savepoints and single out what the database refuses. Without it such a
             refusal raises DBAPIError (see `database.blames_the_data`): the good case, which is
             every case that validation foresaw, does not pay for savepoints.
    late: the lateness choice of the backfill that brings them; see `models.Unfolded`.
    """
    first: dict[str, int] = {}
    for i, entry in enumerate(entries):
        first.setdefault(entry.idempotency_key, i)
    same: set[int] = set()
    if len(first) >= RETRY_LOOKED_FOR_FROM and _is_stored(session, tenant_id, entries[0]):
        # A batch whose first event is known is most likely a retry of the whole: reading what
        # is there costs less than half of offering it all again.
        same = _same_as_stored(session, tenant_id, entries, range(len(entries)))
    chosen = [i for i in first.values() if i not in same]
    refusals: dict[int, str] = {}
    insert = _insert_carefully if careful else _insert
    how = _How(tenant_id, now, late)
    added = insert(session, how, entries, chosen, refusals) if chosen else ()
    if len(added) == len(entries):
        return Outcome(["accepted"] * len(entries), refusals)
    accepted = {first[key] for key in added}
    settled = accepted | same | refusals.keys()
    if unsettled := [i for i in range(len(entries)) if i not in settled]:
        same |= _same_as_stored(session, tenant_id, entries, unsettled)

    def status(i: int) -> str:
        if i in accepted:
            return "accepted"
        if i in refusals:
            return "refused"
        return "duplicate" if i in same else "conflict"

    return Outcome([status(i) for i in range(len(entries))], refusals)


@dataclass(frozen=True)
class _How:
    """What is the same for all entries of a batch."""

    tenant_id: str
    now: datetime
    late: str | None


def _is_stored(session: Session, tenant_id: str, entry: Entry) -> bool:
    parameters = {"tenant_id": tenant_id, "key": entry.idempotency_key}
    return session.connection().exec_driver_sql(_PROBE, parameters).first() is not None


def _insert(
    session: Session,
    how: _How,
    entries: Sequence[Entry],
    chosen: list[int],
    refusals: dict[int, str],
) -> Sequence[str]:
    """Insert the chosen entries, whose keys are distinct; return the keys that were new.

    refusals: stays as it is; a refusal by the database is an error here.
    """
    parameters = {
        "tenant_id": how.tenant_id,
        "now": how.now,
        "late": how.late,
        "entries": msgspec.json.encode([entries[i] for i in chosen]).decode(),
        "expected": len(chosen),
    }
    count, added = session.connection().exec_driver_sql(_APPEND, parameters).one()
    if count == len(chosen):
        return [entries[i].idempotency_key for i in chosen]
    return added or []


def _insert_carefully(
    session: Session,
    how: _How,
    entries: Sequence[Entry],
    chosen: list[int],
    refusals: dict[int, str],
) -> Sequence[str]:
    """Like `_insert`, halving around what the database refuses and writing down its reason."""
    try:
        with session.begin_nested():
            return _insert(session, how, entries, chosen, refusals)
    except DBAPIError as error:
        if not blames_the_data(error):
            raise
        if len(chosen) == 1:
            refusals[chosen[0]] = str(error.orig).partition("\n")[0]
            return []
    half = len(chosen) // 2
    return [
        *_insert_carefully(session, how, entries, chosen[:half], refusals),
        *_insert_carefully(session, how, entries, chosen[half:], refusals),
    ]


def _same_as_stored(
    session: Session, tenant_id: str, entries: Sequence[Entry], positions: Sequence[int]
) -> set[int]:
    """The positions, among those given, whose content equals what the ledger holds."""
    asked = [entries[i] for i in positions]
    parameters = {"tenant_id": tenant_id, "entries": msgspec.json.encode(asked).decode()}
    others = session.connection().exec_driver_sql(_COMPARE, parameters).scalar()
    different = {ordinal - 1 for ordinal in others or ()}
    return {position for at, position in enumerate(positions) if at not in different}
