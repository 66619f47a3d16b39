"""What Stripe does not hold after all: its segments are looked at again."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.stripe import streams, unsent
from metering.stripe.models import Push, PushStream

# No billing period is longer.
LONGEST_PERIOD = timedelta(days=3 * 366)
INSTANT = timedelta(microseconds=1)


def reopen(session: Session, tenant_id: str, pushes: Sequence[Push], *, now: datetime) -> None:
    """Have the segments of pushes looked at again: what they carried is not at Stripe.

    Of a period, whatever may ask for it: at its very start there may be no mapping yet.
    """
    session.flush()
    if not pushes:
        return
    sources = streams.sources(session, tenant_id, {push.stream_id for push in pushes})
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
