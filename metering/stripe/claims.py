"""A claimed push on its way: what is sent, and what Stripe said."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from metering.stripe.models import Push, PushStream
from metering.stripe.streams import StreamKey, key_of

LEASE = timedelta(seconds=90)
# How long Stripe's own total is given to show what it accepted.
VISIBLE = timedelta(minutes=10)


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


def claim_of(push: Push, stream: PushStream, is_urgent: bool = False) -> Claim:
    """The push as it is to be sent."""
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


def may_be_there(push: Push) -> bool:
    """True if a call's end was not seen by us, or seen and left it open."""
    return push.is_uncertain or push.outcomes < push.attempts


def leave_to_summaries(push: Push, reason: str, now: datetime) -> None:
    """Only Stripe's own total tells what became of the push."""
    push.state, push.error = "ambiguous", reason
    push.lease_until = now + VISIBLE
