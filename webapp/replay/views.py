"""POST /v1/replay: make counters what the ledger says, or see what that would change."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from flask import Blueprint, Response, g
from sqlalchemy.orm import Session

from metering.catalog import metrics
from metering.counters import replay as counted
from metering.counters import usage
from metering.counters.replay import Budget
from metering.database import after_commit, unit_of_work
from metering.proof import replay
from metering.proof.replay import Asked
from webapp import runtime, wire
from webapp.endpoint import Contract, endpoint
from webapp.extensions import db
from webapp.replay import cursors, presenters
from webapp.replay.cursors import Question
from webapp.replay.schemas import ReplayAnswerSchema, ReplayBodySchema
from webapp.usage.presenters import span as shown_span

blueprint = Blueprint("replay", __name__, url_prefix="/v1/replay")

# Of reading, in seconds; mending and pricing come on top, and are answered within five.
SECONDS = 2.5
_DOUBTS, _EVENTS = 500, 1_000_000


@blueprint.post("")
@endpoint(
    Contract(
        summary="Rebuild counters from the ledger, or see what that would change",
        scope="events:write",
        body=ReplayBodySchema,
        answer=ReplayAnswerSchema,
        statuses=(400, 401, 403, 404, 413, 415, 422),
        tag="Events",
    )
)
def run(tenant_id: str, body: dict[str, Any]) -> Response:
    """A dry run by default: it does the same and takes it back, so that it changes nothing.

    A page of the range is answered within seconds; `cursor` goes on with the next. Every number is
    of the page. Applied twice, the second time changes nothing. Events that are not counted yet
    are left to be; events that were set aside stay so; a closed period's counter never changes:
    what differs there is in `closed`."""
    applies = _applies(body)
    question = Question(
        tenant_id,
        body.get("metrics"),
        body.get("customer_ref"),
        body.get("since"),
        body.get("until"),
        applies,
    )
    with _step() as (session, now):
        scope = counted.scope(session, tenant_id, body.get("metrics"), body.get("customer_ref"))
        if body.get("cursor") is not None:
            span, begin = cursors.read(question, body["cursor"])
        else:
            since, until = _moment(body, "since", now), _moment(body, "until", now)
            span = counted.span(session, scope, since, until, now=now)
            begin = counted.start(span)
    asked = Asked(scope, span, applies, runtime.current().config.stripe_account)
    page = replay.page(_step, asked, begin, Budget(SECONDS, _DOUBTS, _EVENTS))
    with _step() as (session, now):
        names = scope.metrics or [each.metric for each in metrics.listed(session, tenant_id)]
        watermark = _watermark(session, tenant_id, scope.customer_ref, scope.metrics)
        if applies and page.stripe:
            hints = runtime.current().hints
            after_commit(session, lambda: hints.push(tenant_id))
    answer = {
        "mode": "apply" if applies else "dry-run",
        "tenantId": tenant_id,
        "metrics": list(names),
        "timeRange": shown_span(span),
        "changes": presenters.changes(page, names),
        "customers": [presenters.customer(change) for change in page.changes],
        "stripe": presenters.stripe(page),
        "closed": [presenters.closed(each) for each in page.closed],
        "cursor": cursors.write(question, span, page.next) if page.next else None,
        "watermark": wire.instant(watermark) if watermark else None,
        "summary": presenters.summary([page], applies=applies, is_whole=page.next is None),
    }
    if applies:
        answer["applied"] = {
            "segments": page.segments,
            "counters": page.counters,
            "members": page.members,
        }
    return wire.answer(answer)


@contextmanager
def _step() -> Iterator[tuple[Session, datetime]]:
    with unit_of_work(db.session()) as session:
        yield session, g.now


def _applies(body: dict[str, Any]) -> bool:
    mode, dry = body.get("mode"), body.get("dry_run")
    if mode is not None and dry is not None and (mode == "dry-run") != dry:
        raise wire.invalid_field("dryRun", "says otherwise than mode")
    return mode == "apply" or dry is False


def _moment(body: dict[str, Any], name: str, now: datetime) -> datetime | None:
    text = body.get(name)
    try:
        return None if text is None else wire.read_moment(text, now)
    except ValueError as error:
        raise wire.invalid_field(name, str(error)) from None


def _watermark(
    session: Session, tenant_id: str, customer_ref: str | None, names: Any
) -> datetime | None:
    if names is None:
        return usage.watermark(session, tenant_id, customer_ref, None)
    found = [usage.watermark(session, tenant_id, customer_ref, name) for name in names]
    return max((at for at in found if at is not None), default=None)
