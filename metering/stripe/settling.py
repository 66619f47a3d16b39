"""What became of claims, written down once Stripe has answered."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from metering.stripe import connections, streams, tally
from metering.stripe.claims import VISIBLE, Claim, Outcome, leave_to_summaries
from metering.stripe.models import OPEN_STATES, Connection, Push, PushStream
from metering.stripe.reopening import reopen
from metering.stripe.streams import StreamKey

BLOCKED = timedelta(hours=1)
SLOWEST = timedelta(minutes=2)


def settle(session: Session, outcomes: Iterable[tuple[Claim, Outcome]], *, now: datetime) -> None:
    """Write down what became of these claims, all of one tenant.

    An answer to a call that outlived its lease still counts if Stripe accepted; otherwise the
    attempt that followed it decides. It counts even of a push that Stripe's total did not hold
    when it was asked: a call that hung for so long arrived after the question.
    """
    answers = {claimed.identifier: (claimed, outcome) for claimed, outcome in outcomes}
    if not answers:
        return
    settling = _Settling(session, next(iter(answers.values()))[0].tenant_id, now)
    pushes = session.scalars(
        select(Push)
        .where(Push.tenant_id == settling.tenant_id, Push.identifier.in_(answers))
        .order_by(Push.identifier)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    settling.lock_connections(claimed.stream for claimed, _ in answers.values())
    for push in pushes:
        claimed, outcome = answers[push.identifier]
        is_latest = push.attempts == claimed.attempts
        is_accepted = outcome.kind == "accepted"
        if push.state in OPEN_STATES and (is_latest or is_accepted):
            settling.settle(push, claimed.stream, outcome)
        elif push.is_missing and is_accepted:
            settling.settle_late(push, claimed.stream, outcome)
    settling.finish()
    said = (
        (claimed.stream.mode, outcome.kind if outcome.is_sent else tally.NOT_SENT)
        for claimed, outcome in answers.values()
    )
    tally.add(session, settling.tenant_id, said)


class _Settling:
    """Answers to several claims of one tenant, written down together."""

    def __init__(self, session: Session, tenant_id: str, now: datetime) -> None:
        self.session, self.tenant_id, self.now = session, tenant_id, now
        self._connections: dict[tuple[str, str], Connection] = {}
        self._accepted: set[str] = set()
        self._reopened: list[Push] = []

    def lock_connections(self, streams: Iterable[StreamKey]) -> None:
        """In the same order everywhere: two who settle at once never wait in a circle."""
        for mode, account_id in sorted({(each.mode, each.account_id) for each in streams}):
            found = connections.find(self.session, self.tenant_id, mode, account_id)
            self._connections[mode, account_id] = found

    def settle(self, push: Push, stream: StreamKey, outcome: Outcome) -> None:
        now, connection = self.now, self._connections[stream.mode, stream.account_id]
        was_in_doubt = push.state == "ambiguous"
        push.outcomes = push.attempts
        match outcome.kind:
            case "accepted":
                connections.note_answer(connection, now=now)
                self._accept(push)
            case "duplicate":
                connections.note_answer(connection, now=now)
                if push.attempts > 1:
                    self._accept(push)
                else:
                    leave_to_summaries(push, _UNEXPECTED_DUPLICATE, now)
            case "retry" if outcome.is_certainly_not_taken:
                wait = outcome.retry_after or _backoff(push).total_seconds()
                push.lease_until, push.error = now + timedelta(seconds=wait), outcome.message
                if outcome.status == 429:
                    connections.note_throttling(connection, wait, now=now)
            case "retry":
                connections.note_silence(connection, outcome.message, now=now)
                push.is_uncertain, push.error = True, outcome.message
                if outcome.is_answered:
                    push.answered_failures += 1
                wait = max(outcome.retry_after or 0.0, _backoff(push).total_seconds())
                push.lease_until = now + timedelta(seconds=wait)
            case "auth":
                connections.note_refusal(connection, outcome.message, now=now)
                push.error = outcome.message
                push.lease_until = connection.halted_until or now + BLOCKED
            case "rejected" | "gone":
                connections.note_answer(connection, now=now)
                if push.is_uncertain:
                    # An earlier call may have been taken before whatever is wrong went wrong.
                    leave_to_summaries(push, outcome.message, now)
                else:
                    push.state, push.error = "rejected", outcome.message
                block(self.session, push, outcome.kind, outcome.message, now=now)
                self._reopened.append(push)
        if was_in_doubt:
            self._keep_in_doubt(push)

    def _keep_in_doubt(self, push: Push) -> None:
        """That Stripe accepts a push does not say that a report of thrown away ones did not mean
        it; and a total that is to tell must have had time to show this answer's call."""
        if push.state == "settled":
            push.state = "suspect"
        if push.state != "rejected":
            push.lease_until = max(push.lease_until, self.now + VISIBLE)

    def settle_late(self, push: Push, stream: StreamKey, outcome: Outcome) -> None:
        """Of a push that was given up: what was sent in its place is too much now."""
        self.settle(push, stream, outcome)
        self._reopened.append(push)

    def finish(self) -> None:
        """Streams that Stripe takes again are not blocked any more; what it refused is unsent."""
        reopen(self.session, self.tenant_id, self._reopened, now=self.now)
        if self._accepted:
            self.session.execute(
                update(PushStream)
                .where(
                    PushStream.tenant_id == self.tenant_id,
                    PushStream.stream_id.in_(self._accepted),
                    PushStream.blocked_kind.is_not(None),
                )
                .values(blocked_kind=None, blocked_reason=None, blocked_at=None, retry_at=None)
            )

    def _accept(self, push: Push) -> None:
        push.state, push.is_missing = "settled", False
        push.settled_at, push.error = self.now, None
        self._accepted.add(push.stream_id)


def _backoff(push: Push) -> timedelta:
    return min(timedelta(seconds=2 ** min(push.attempts, 10)), SLOWEST)


def block(session: Session, push: Push, kind: str, reason: str, *, now: datetime) -> None:
    """Send nothing of the push's stream for a while; what it carried is to be reopened."""
    stream = streams.by_id(session, push.tenant_id, [push.stream_id])[push.stream_id]
    stream.blocked_kind, stream.blocked_reason = kind, reason
    stream.blocked_at, stream.retry_at = now, now + BLOCKED


_UNEXPECTED_DUPLICATE = (
    "Stripe says that it has this identifier already, at our first attempt: Stripe's own total will"
    " tell"
)
