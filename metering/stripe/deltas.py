"""Promises to Stripe: claimed before they are sent, settled once Stripe has answered.

    claim     in one transaction: find what is unsent, write a push under a lease
    (send)    no transaction is open
    settle    in another: what became of it

A crash anywhere leaves a claimed row, which is sent again, byte for byte, when its lease has
expired. What Stripe holds of a segment is the sum of its pushes that were not rejected; a push
therefore counts from the moment it is claimed, and nothing is ever sent that no row promised.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from metering import installation
from metering.stripe import connections, tally, unsent
from metering.stripe.backlog import Backlog
from metering.stripe.destinations import StreamKey
from metering.stripe.look import LEASE, Cadence, Look, key_of
from metering.stripe.models import OPEN_STATES, Connection, Push, PushStream, StreamSource
from metering.stripe.spans import Periods, Source

# Stripe recognises an identifier for at least a day; beyond, only its summaries can tell.
RECOGNISED = timedelta(hours=23)
MOST = 50
# How long Stripe's own total is given to show what it accepted.
VISIBLE = timedelta(minutes=10)
BLOCKED = timedelta(hours=1)
SLOWEST = timedelta(minutes=2)
# No billing period is longer.
LONGEST_PERIOD = timedelta(days=3 * 366)
INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True)
class Claim:
    """A push to be sent now, by whoever holds this.

    attempts: this one included.  is_urgent: may use what of the limit is kept for such.
    lease_until: from then on another worker may send it.
    """

    tenant_id: str
    identifier: str
    stream: StreamKey
    quantity: Decimal
    stamped_at: datetime
    attempts: int
    answered_failures: int
    lease_until: datetime
    is_urgent: bool = False

    @property
    def idempotency_key(self) -> str:
        """The identifier, with `~n` after n answered failures: Stripe would replay those to the
        same key for a day."""
        failures = self.answered_failures
        return f"{self.identifier}~{failures}" if failures else self.identifier


@dataclass(frozen=True)
class Turn:
    """What a look found. rows: unsent rows looked at; no claims and no rows: nothing is due."""

    claims: Sequence[Claim]
    rows: int


def ten_seconds(mode: str, account_id: str) -> timedelta:
    """The least cadence: no segment is pushed oftener."""
    return timedelta(seconds=10)


def claim(
    session: Session,
    tenant_id: str,
    *,
    now: datetime,
    default_account: str | None = None,
    cadence: Cadence = ten_seconds,
    most: int = MOST,
    backlog: Backlog | None = None,
) -> Turn:
    """Write down what is to be sent next, at most one push per stream, before anyone sends it.

    Also takes over pushes whose lease has expired; of those whose outcome is unknown and which
    Stripe might no longer recognise its summaries decide: they become `ambiguous`.
    default_account: the keys' own, for mappings that name none.
    backlog: kept by whoever claims again and again, so that a long one is not ranked each time.
    """
    again = _expired(session, tenant_id, now, most)
    if len(again) >= most:
        return Turn(again, 0)
    backlog = backlog or Backlog(tenant_id)
    rows = backlog.take(session, now=now, most=most - len(again))
    looking = Look(session, tenant_id, now, default_account, cadence, most - len(again))
    fresh = [_claim_of(*made) for made in looking.push(rows)]
    return Turn([*again, *fresh], len(rows))


def _expired(session: Session, tenant_id: str, now: datetime, most: int) -> list[Claim]:
    pushes = session.scalars(
        select(Push)
        .where(Push.tenant_id == tenant_id, Push.state == "claimed", Push.lease_until <= now)
        .order_by(Push.lease_until)
        .limit(most)
        .with_for_update(skip_locked=True)
    ).all()
    if not pushes:
        return []
    halted = connections.halted(session, tenant_id, now)
    streams = _streams_of(session, tenant_id, {push.stream_id for push in pushes})
    final = _of_final_invoices(session, tenant_id, pushes, streams)
    bound = installation.accounts_of(session, tenant_id)
    claims, dropped = [], []
    for push in pushes:
        stream = streams[push.stream_id]
        halted_until = halted.get((stream.mode, stream.account_id))
        if stream.account_id not in bound:
            push.lease_until, push.error = now + BLOCKED, _NOT_OURS
        elif push.identifier in final and _may_be_there(push):
            _leave_to_summaries(push, _TOO_LATE_TO_RESEND, now)
        elif push.identifier in final:
            # Looked at again, it becomes a decision.
            push.state, push.error = "rejected", _TOO_LATE_TO_RESEND
            dropped.append(push)
        elif halted_until is not None:
            push.lease_until = halted_until
        elif now - push.claimed_at >= RECOGNISED and _may_be_there(push):
            _leave_to_summaries(push, _TOO_OLD_TO_RESEND, now)
        else:
            push.is_uncertain = _may_be_there(push)
            push.attempts, push.lease_until = push.attempts + 1, now + LEASE
            claims.append(_claim_of(push, stream))
    reopen(session, tenant_id, dropped, now=now)
    return claims


def _of_final_invoices(
    session: Session, tenant_id: str, pushes: Sequence[Push], streams: Mapping[str, PushStream]
) -> set[str]:
    """The pushes whose period's invoice became final while they were on their way: sent again,
    Stripe would take them and bill them on no invoice."""
    fed = session.scalars(
        select(StreamSource).where(
            StreamSource.tenant_id == tenant_id, StreamSource.stream_id.in_(streams)
        )
    ).all()
    sources: dict[str, list[Source]] = {stream_id: [] for stream_id in streams}
    for row in fed:
        sources[row.stream_id].append(Source(row.customer_ref, row.metric))
    periods = Periods(session, tenant_id, (one for found in sources.values() for one in found))
    return {
        push.identifier
        for push in pushes
        if push.basis != "direct"
        and any(
            period.is_final and period.mode == streams[push.stream_id].mode
            for period in (
                periods.at(source, push.segment_start) for source in sources[push.stream_id]
            )
        )
    }


def _may_be_there(push: Push) -> bool:
    """True if a call's end was not seen by us, or seen and left it open."""
    return push.is_uncertain or push.outcomes < push.attempts


@dataclass(frozen=True)
class Outcome:
    """What Stripe said to a claim.

    kind: `accepted`, or one of the driver's kinds of fault.
    is_answered: Stripe answered at all.  is_sent: False if nothing left this machine.
    status:      of the answer.
    retry_after: seconds that Stripe asks us to wait.
    """

    kind: Literal["accepted", "retry", "duplicate", "rejected", "auth", "gone"]
    message: str = ""
    is_answered: bool = True
    is_sent: bool = True
    status: int | None = None
    retry_after: float | None = None

    @property
    def is_certainly_not_taken(self) -> bool:
        """True of a 409, a 429, and of what never left; a 5xx or silence leaves it open."""
        answered_no = self.is_answered and (self.status is None or self.status < 500)
        return answered_no or not self.is_sent


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
                    _leave_to_summaries(push, _UNEXPECTED_DUPLICATE, now)
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
                    _leave_to_summaries(push, outcome.message, now)
                else:
                    push.state, push.error = "rejected", outcome.message
                block(self.session, push, outcome.kind, outcome.message, now=now)
                self._reopened.append(push)

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


def _leave_to_summaries(push: Push, reason: str, now: datetime) -> None:
    push.state, push.error = "ambiguous", reason
    push.lease_until = now + VISIBLE


def block(session: Session, push: Push, kind: str, reason: str, *, now: datetime) -> None:
    """Send nothing of the push's stream for a while; what it carried is to be reopened."""
    stream = _streams_of(session, push.tenant_id, [push.stream_id])[push.stream_id]
    stream.blocked_kind, stream.blocked_reason = kind, reason
    stream.blocked_at, stream.retry_at = now, now + BLOCKED


def reopen(session: Session, tenant_id: str, pushes: Sequence[Push], *, now: datetime) -> None:
    """Have the segments of pushes looked at again: what they carried is not at Stripe.

    Of a period, whatever may ask for it: at its very start there may be no mapping yet.
    """
    session.flush()
    if not pushes:
        return
    sources: dict[str, list[StreamSource]] = defaultdict(list)
    for source in session.scalars(
        select(StreamSource).where(
            StreamSource.tenant_id == tenant_id,
            StreamSource.stream_id.in_({push.stream_id for push in pushes}),
        )
    ):
        sources[source.stream_id].append(source)
    stretches = [
        unsent.Stretch(
            source.customer_ref,
            source.metric,
            push.segment_start,
            push.segment_start + (LONGEST_PERIOD if push.basis == "period" else INSTANT),
        )
        for push in pushes
        for source in sources[push.stream_id]
    ]
    unsent.mark_many(session, tenant_id, stretches, now=now)


def unblock(session: Session, stream: PushStream, *, now: datetime) -> None:
    """Try the stream again: by hand, or because what stood in its way is mended."""
    stream.retry_at = now
    pushes = session.scalars(
        select(Push).where(
            Push.tenant_id == stream.tenant_id,
            Push.stream_id == stream.stream_id,
            Push.state.in_(("claimed", "rejected")),
        )
    ).all()
    for push in pushes:
        if push.state == "claimed" and push.error is not None:
            push.lease_until = min(push.lease_until, now)
    rejected = [push for push in pushes if push.state == "rejected"]
    reopen(session, stream.tenant_id, rejected, now=now)


def _streams_of(session: Session, tenant_id: str, ids: Iterable[str]) -> dict[str, PushStream]:
    rows = session.scalars(
        select(PushStream).where(PushStream.tenant_id == tenant_id, PushStream.stream_id.in_(ids))
    )
    return {row.stream_id: row for row in rows}


def _claim_of(push: Push, stream: PushStream, is_urgent: bool = False) -> Claim:
    return Claim(
        tenant_id=push.tenant_id,
        identifier=push.identifier,
        stream=key_of(stream),
        quantity=push.quantity,
        stamped_at=push.stamped_at,
        attempts=push.attempts,
        answered_failures=push.answered_failures,
        lease_until=push.lease_until,
        is_urgent=is_urgent,
    )


_TOO_OLD_TO_RESEND = (
    "its outcome is not known, and it is too old for Stripe to recognise its identifier: Stripe's"
    " own total will tell"
)
_NOT_OURS = "the Stripe account is not bound to this tenant any more: nothing is sent there"
_TOO_LATE_TO_RESEND = (
    "the period's invoice became final while this was on its way: Stripe's own total will tell"
    " whether it was taken before"
)
_UNEXPECTED_DUPLICATE = (
    "Stripe says that it has this identifier already, at our first attempt: Stripe's own total will"
    " tell"
)
