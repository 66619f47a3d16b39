"""Promises to Stripe: claimed before they are sent, settled once Stripe has answered.

    claim     in one transaction: find what is unsent, write a push under a lease
    (send)    no transaction is open
    settle    in another: what became of it

A crash anywhere leaves a claimed row, which is sent again, byte for byte, when its lease has
expired. What Stripe holds of a segment is the sum of its pushes that were not rejected; a push
therefore counts from the moment it is claimed, and nothing is ever sent that no row promised.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering import installation
from metering.stripe import connections, streams
from metering.stripe.backlog import Backlog
from metering.stripe.claims import LEASE, Claim, claim_of, leave_to_summaries, may_be_there
from metering.stripe.look import Cadence, Look
from metering.stripe.models import Push, PushStream
from metering.stripe.reopening import reopen
from metering.stripe.settling import BLOCKED, settle
from metering.stripe.spans import Periods

__all__ = ["Turn", "claim", "settle", "ten_seconds"]

# Stripe recognises an identifier for at least a day; beyond, only its summaries can tell.
RECOGNISED = timedelta(hours=23)
MOST = 50


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
    fresh = [claim_of(*made) for made in looking.push(rows)]
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
    found = streams.by_id(session, tenant_id, {push.stream_id for push in pushes})
    final = _of_final_invoices(session, tenant_id, pushes, found)
    bound = installation.accounts_of(session, tenant_id)
    claims, dropped = [], []
    for push in pushes:
        stream = found[push.stream_id]
        halted_until = halted.get((stream.mode, stream.account_id))
        if stream.account_id not in bound:
            push.lease_until, push.error = now + BLOCKED, _NOT_OURS
        elif push.identifier in final and may_be_there(push):
            leave_to_summaries(push, _TOO_LATE_TO_RESEND, now)
        elif push.identifier in final:
            # Looked at again, it becomes a decision.
            push.state, push.error = "rejected", _TOO_LATE_TO_RESEND
            dropped.append(push)
        elif halted_until is not None:
            push.lease_until = halted_until
        elif now - push.claimed_at >= RECOGNISED and may_be_there(push):
            leave_to_summaries(push, _TOO_OLD_TO_RESEND, now)
        else:
            push.is_uncertain = may_be_there(push)
            push.attempts, push.lease_until = push.attempts + 1, now + LEASE
            claims.append(claim_of(push, stream))
    reopen(session, tenant_id, dropped, now=now)
    return claims


def _of_final_invoices(
    session: Session, tenant_id: str, pushes: Sequence[Push], of: Mapping[str, PushStream]
) -> set[str]:
    """The pushes whose period's invoice became final while they were on their way: sent again,
    Stripe would take them and bill them on no invoice."""
    sources = streams.sources(session, tenant_id, of)
    periods = Periods(session, tenant_id, (one for found in sources.values() for one in found))
    return {
        push.identifier
        for push in pushes
        if push.basis != "direct"
        and any(
            period.is_final and period.mode == of[push.stream_id].mode
            for period in (
                periods.at(source, push.segment_start) for source in sources[push.stream_id]
            )
        )
    }


_TOO_OLD_TO_RESEND = (
    "its outcome is not known, and it is too old for Stripe to recognise its identifier: Stripe's"
    " own total will tell"
)
_NOT_OURS = "the Stripe account is not bound to this tenant any more: nothing is sent there"
_TOO_LATE_TO_RESEND = (
    "the period's invoice became final while this was on its way: Stripe's own total will tell"
    " whether it was taken before"
)
