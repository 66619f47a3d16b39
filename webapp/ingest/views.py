"""POST /v1/events/ingest: the door through which all usage comes."""

from collections import defaultdict
from datetime import datetime

from flask import Blueprint, Response, g, request
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from metering.database import after_commit, blames_the_data, unit_of_work
from metering.ledger import append as ledger
from metering.ledger import requests
from metering.tenancy import tenants
from webapp import auth, runtime, telemetry, wire
from webapp import body as request_body
from webapp.endpoint import Contract, check_scope, declare, refuse_query
from webapp.endpoint import request_key as read_request_key
from webapp.extensions import db
from webapp.ingest.batch import Batch
from webapp.ingest.lanes import parse
from webapp.ingest.schemas import (
    BatchSchema,
    IngestAnswerSchema,
    Result,
)

blueprint = Blueprint("ingest", __name__, url_prefix="/v1/events")

OPERATION = "ingest"
MENDED = (
    ". Send only the events that were refused, mended, under a new key: the others are stored"
    " already"
)

# Tenants this process has seen made: they are never deleted, so a set may remember them.
_made: set[str] = set()


@blueprint.post("/ingest")
def ingest() -> Response:
    """Append a batch of usage events to the ledger; safe to send again.

    Every event gets its own verdict. The answer is sent after the commit: what is `accepted` or
    `duplicate` is stored for good.
    """
    check_scope("events:write")
    caller = auth.principal()
    body = request_body.read(request)
    refuse_query()
    request_key = read_request_key()
    batch = parse(body, own_tenant=caller.tenant_id, request_key=request_key, now=g.now)
    try:
        outcomes = _store(batch, body, request_key, careful=False)
    except DBAPIError as error:
        # A value that validation let pass and the database refuses is singled out; a connection
        # that turned out to be dead is replaced. Storing a batch twice is storing it once.
        if not (blames_the_data(error) or error.connection_invalidated):
            raise
        outcomes = _store(batch, body, request_key, careful=blames_the_data(error))
    return _present(batch, outcomes)


declare(
    ingest,
    Contract(
        summary="Append usage events to the ledger, each exactly once",
        scope="events:write",
        body=BatchSchema,
        answer=IngestAnswerSchema,
        statuses=(400, 401, 403, 413, 415, 422, 503),
        tag="Events",
        headers={"Idempotency-Key": "names the whole request; ≤ 250 characters"},
    ),
)


def _store(batch: Batch, body: bytes, request_key: str | None, *, careful: bool) -> dict[int, str]:
    """Append each tenant's events (one tenant, but in the sandbox); statuses by position."""
    statuses: dict[int, str] = {}
    by_tenant: dict[str, list[int]] = defaultdict(list)
    for i, tenant_id in batch.tenants.items():
        by_tenant[tenant_id].append(i)
    own_tenant = auth.principal().tenant_id
    if own_tenant is not None:
        by_tenant.setdefault(own_tenant, [])  # a batch without a good event still spends its key
    with unit_of_work(db.session()) as session:
        for tenant_id, positions in sorted(by_tenant.items()):
            g.tenant_id = tenant_id
            _make_in_sandbox(session, tenant_id, g.now)
            if request_key is not None:
                requests.claim(
                    session, tenant_id, OPERATION, request_key, body, now=g.now, advice=MENDED
                )
            outcome = ledger.append(
                session,
                tenant_id,
                [batch.entries[i] for i in positions],
                now=g.now,
                careful=careful,
            )
            statuses.update(zip(positions, outcome.statuses, strict=True))
            for at, reason in outcome.refusals.items():
                batch.errors[positions[at]] = f"could not be stored: {reason}"
            if outcome.added:
                _wake_after_commit(session, tenant_id)
    return statuses


def _make_in_sandbox(session: Session, tenant_id: str, now: datetime) -> None:
    """In the sandbox a tenant is made by being named; elsewhere the operator makes it."""
    if auth.principal().tenant_id is None and tenant_id not in _made:
        lateness = runtime.current().config.lateness_seconds
        tenants.ensure(session, tenant_id, mode="test", now=now, lateness_seconds=lateness)
        after_commit(session, lambda: _made.add(tenant_id))


def _wake_after_commit(session: Session, tenant_id: str) -> None:
    hints = runtime.current().hints
    after_commit(session, lambda: hints.wake_counters(tenant_id))


def _present(batch: Batch, statuses: dict[int, str]) -> Response:
    results = [_result(i, batch, statuses) for i in range(batch.size)]
    counts = {"accepted": 0, "duplicate": 0, "error": 0}
    for result in results:
        counts[result.status] += 1
    telemetry.INGESTED.inc(counts["accepted"])
    telemetry.DUPLICATES.inc(counts["duplicate"])
    telemetry.REJECTED.inc(counts["error"])
    answer: dict[str, object] = {
        "accepted": counts["accepted"],
        "duplicates": counts["duplicate"],
        "rejected": counts["error"],
        "requestId": g.request_id,
        "results": results,
    }
    if counts["error"]:
        answer["errors"] = [
            {"index": result.index, "error": result.error}
            for result in results
            if result.status == "error"
        ]
    return wire.answer(answer)


def _result(i: int, batch: Batch, statuses: dict[int, str]) -> Result:
    entry = batch.entries.get(i)
    if entry is None:
        return Result(i, batch.keys.get(i), "error", error=batch.errors[i])
    key = entry.idempotency_key
    match statuses[i]:
        case "accepted":
            return Result(i, key, "accepted")
        case "duplicate" if i in batch.derived:
            return Result(i, key, "duplicate", derived=True)
        case "duplicate":
            return Result(i, key, "duplicate")
        case "conflict":
            return Result(i, key, "error", error=ledger.CONFLICT)
    return Result(i, key, "error", error=batch.errors[i])
