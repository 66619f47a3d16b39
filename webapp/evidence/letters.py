"""Dead letters: the list, and to have them counted again."""

from typing import Any

from flask import Blueprint, Response, g

from metering.counters import dead_letters
from metering.counters.dead_letters import Letter, Resent
from metering.database import after_commit, unit_of_work
from webapp import cursor, runtime, wire
from webapp.endpoint import Contract, endpoint
from webapp.evidence.schemas import (
    LettersAnswerSchema,
    LettersQuerySchema,
    ResendBodySchema,
    ResentSchema,
)
from webapp.extensions import db

blueprint = Blueprint("dead_letters", __name__, url_prefix="/v1/events/dead-letters")
READ, WRITE = "events:read", "events:write"


@blueprint.get("")
@endpoint(
    Contract(
        summary="List dead letters",
        scope=READ,
        query=LettersQuerySchema,
        answer=LettersAnswerSchema,
        statuses=(401, 403, 422),
        tag="Events",
    )
)
def list_letters(tenant_id: str, query: dict[str, Any]) -> Response:
    """Events that the database refused to count, by id, with the reason."""
    session, limit = db.session(), query["limit"]
    after = cursor.read(query["cursor"], 1)[0] if "cursor" in query else ""
    found = dead_letters.page(session, tenant_id, after=after, limit=limit + 1)
    total = dead_letters.count(session, tenant_id)
    more = len(found) > limit
    return wire.answer(
        {
            "total": total,
            "totalIsLowerBound": total >= dead_letters.TURN,
            "deadLetters": [present(letter) for letter in found[:limit]],
            "nextCursor": cursor.write([found[limit - 1].event_id]) if more else None,
        }
    )


@blueprint.post("/resend")
@endpoint(
    Contract(
        summary="Count dead letters again",
        scope=WRITE,
        body=ResendBodySchema,
        answer=ResentSchema,
        statuses=(400, 401, 403, 413, 415, 422, 503),
        tag="Events",
    )
)
def resend(tenant_id: str, body: dict[str, Any]) -> Response:
    """Once the cause is mended. Those that fail again are dead letters again; what is void is left
    alone, and so is an id that is no dead letter."""
    done = send_again(tenant_id, body.get("ids"))
    return wire.answer({"resent": done.events, "void": done.void})


def send_again(tenant_id: str, ids: list[str] | None) -> Resent:
    """In turns, each a transaction of its own; the fold is woken after each."""
    hints = runtime.current().hints
    events, void, after = 0, 0, ""
    while True:
        with unit_of_work(db.session()) as session:
            done = dead_letters.resend(session, tenant_id, ids, until=g.now, after=after)
            if done.events:
                after_commit(session, lambda: hints.wake_counters(tenant_id))
        events, void = events + done.events, void + done.void
        if done.last_key is None:
            return Resent(events, void, None)
        after = done.last_key


def present(letter: Letter) -> dict[str, Any]:
    """One of the list."""
    return {
        "id": letter.event_id,
        "metric": letter.metric,
        "customerRef": letter.customer_ref,
        "quantity": wire.decimal(letter.quantity),
        "timestamp": wire.instant(letter.occurred_at),
        "recordedAt": wire.instant(letter.recorded_at),
        "error": letter.error,
        "failedAt": wire.instant(letter.failed_at),
        "void": letter.is_void,
    }
