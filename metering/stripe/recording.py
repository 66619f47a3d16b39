"""Usage that is told to Stripe directly, by those who count it themselves.

It goes through a push row like all other usage: written before it is sent, sent byte for byte the
same however often, confirmed by Stripe's own total. No counter knows it, and no delta takes it
back.
"""

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import cast

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from metering import installation
from metering.catalog.mirror import StripeMeter, SubscriptionItem
from metering.database import unit_of_work
from metering.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from metering.stripe import deltas, streams
from metering.stripe.claims import LEASE, Claim, Outcome
from metering.stripe.digits import truncated
from metering.stripe.driver import Driver, StripeFault
from metering.stripe.limits import Limits, LocalLimiter
from metering.stripe.look import OLDEST
from metering.stripe.models import OPEN_STATES, Push
from metering.stripe.modes import Mode
from metering.stripe.streams import StreamKey

Sessions = Callable[[], AbstractContextManager[Session]]


# As long as a call may take: its turn, a connection, and Stripe's answer.
CALL = timedelta(seconds=40)
_TOO_LATE = "its turn came too late to be answered within its lease; it is sent again"


@dataclass(frozen=True)
class Recorded:
    """What became of a record. state: as of a push: `settled` is accepted, `claimed` is still
    open and will be sent again by the workers."""

    identifier: str
    state: str
    error: str | None


class StripeBillingDriver:
    """Usage in, and Stripe's totals out, in both modes.

    sessions: opens a session of the product's database; the rows are what makes a repetition
              harmless.
    clock:    aware UTC instants.
    """

    def __init__(
        self,
        *,
        live_key: str | None = None,
        test_key: str | None = None,
        sessions: Sessions,
        clock: Callable[[], datetime],
        driver: Driver | None = None,
    ) -> None:
        self._driver = driver or Driver(
            live_key, test_key, limiter=LocalLimiter(Limits(), workers=1)
        )
        self._sessions, self._clock = sessions, clock

    def record_usage(
        self,
        mode: Mode,
        stripe_account: str,
        *,
        subscription_item_id: str | None = None,
        meter: str | None = None,
        customer: str | None = None,
        quantity: Decimal,
        period_start: datetime,
        idempotency_key: str,
    ) -> Recorded:
        """Add to what a customer has used, once per idempotency key.

        subscription_item_id, or meter (its event name) and customer.
        quantity: units, at most 15 significant digits.  period_start: whole seconds, within the
                  last 35 days; the instant that Stripe bills the usage at.
        Raises: InvalidInputError, NotFoundError; ForbiddenError for an account that is bound to
                nobody; ConflictError for a key that named other usage, and while another push of
                the stream is on its way.
        """
        with self._sessions() as session, unit_of_work(session):
            now = self._clock()
            tenant_id = _tenant_of(session, stripe_account)
            stream = _stream(
                session, tenant_id, mode, stripe_account, subscription_item_id, meter, customer
            )
            claim = _claim(session, tenant_id, stream, quantity, period_start, idempotency_key, now)
        if isinstance(claim, Recorded):
            return claim
        outcome = self._send(claim)
        with self._sessions() as session, unit_of_work(session):
            deltas.settle(session, [(claim, outcome)], now=self._clock())
            return _recorded(_found(session, tenant_id, claim.identifier))

    def get_usage_summary(
        self,
        mode: Mode,
        stripe_account: str,
        *,
        subscription_item_id: str | None = None,
        meter: str | None = None,
        customer: str | None = None,
        start: datetime,
        end: datetime,
    ) -> Decimal:
        """Stripe's own total over `[start, end)`, both on whole minutes; it lags by some seconds.

        Raises: as `record_usage`; StripeFault where Stripe cannot be asked.
        """
        with self._sessions() as session:
            tenant_id = _tenant_of(session, stripe_account)
            stream = _stream(
                session, tenant_id, mode, stripe_account, subscription_item_id, meter, customer
            )
            meter_id = session.scalar(
                select(StripeMeter.meter_id).where(
                    StripeMeter.tenant_id == tenant_id,
                    StripeMeter.mode == mode,
                    StripeMeter.account_id == stripe_account,
                    StripeMeter.event_name == stream.event_name,
                    StripeMeter.is_active,
                )
            )
        if meter_id is None:
            raise NotFoundError(f"no active meter {stream.event_name!r} is known in this account")
        found = self._driver.summaries(
            mode, stripe_account, meter_id, stream.stripe_customer, start, end, window=None
        )
        return sum((summary.value for summary in found), Decimal(0))

    def _send(self, claim: Claim) -> Outcome:
        return send(self._driver, claim, now=self._clock())


def send(driver: Driver, claim: Claim, *, now: datetime) -> Outcome:
    """Send one push; whatever happens is an outcome, never an error.

    One that could not be answered before its lease ends is not sent: another worker may be about
    to, or its outcome may have been settled otherwise.
    """
    if now > claim.lease_until - CALL:
        return Outcome("retry", _TOO_LATE, is_answered=False, is_sent=False)
    stream = claim.stream
    try:
        driver.send_meter_event(
            cast("Mode", stream.mode),
            stream.account_id,
            event_name=stream.event_name,
            stripe_customer=stream.stripe_customer,
            value=claim.quantity,
            timestamp=claim.stamped_at,
            identifier=claim.identifier,
            idempotency_key=claim.idempotency_key,
            urgent=claim.is_urgent,
        )
    except StripeFault as fault:
        return Outcome(
            fault.kind,
            fault.message,
            is_answered=fault.answered,
            is_sent=fault.sent,
            status=fault.status,
            retry_after=fault.retry_after,
        )
    return Outcome("accepted")


def _tenant_of(session: Session, account_id: str) -> str:
    tenant_id = installation.tenant_of_account(session, account_id)
    if tenant_id is None:
        raise ForbiddenError(
            f"the Stripe account {account_id} is bound to no tenant: an operator binds it with"
            " `stripemeter stripe bind`"
        )
    return tenant_id


def _stream(
    session: Session,
    tenant_id: str,
    mode: Mode,
    account_id: str,
    item_id: str | None,
    meter: str | None,
    customer: str | None,
) -> StreamKey:
    if item_id is not None:
        row = session.execute(
            select(StripeMeter.event_name, SubscriptionItem.stripe_customer)
            .join(
                StripeMeter,
                (StripeMeter.tenant_id == SubscriptionItem.tenant_id)
                & (StripeMeter.mode == SubscriptionItem.mode)
                & (StripeMeter.account_id == SubscriptionItem.account_id)
                & (StripeMeter.meter_id == SubscriptionItem.meter_id),
            )
            .where(
                SubscriptionItem.tenant_id == tenant_id,
                SubscriptionItem.mode == mode,
                SubscriptionItem.account_id == account_id,
                SubscriptionItem.item_id == item_id,
            )
        ).first()
        if row is None:
            raise NotFoundError(f"no metered subscription item {item_id} is known in this account")
        return StreamKey(mode, account_id, row.event_name, row.stripe_customer)
    if meter is None or customer is None:
        raise InvalidInputError("name a subscription item, or a meter and a customer")
    return StreamKey(mode, account_id, meter, customer)


def _claim(
    session: Session,
    tenant_id: str,
    key: StreamKey,
    quantity: Decimal,
    at: datetime,
    idempotency_key: str,
    now: datetime,
) -> Claim | Recorded:
    if truncated(quantity) != quantity:
        raise InvalidInputError("a quantity has at most 15 significant digits", pointer="/quantity")
    if at.microsecond or not now - OLDEST <= at <= now + timedelta(minutes=4):
        raise InvalidInputError(
            "periodStart must be a whole second of the last 35 days", pointer="/periodStart"
        )
    # The key names the usage within the stream: the same key elsewhere is another promise.
    named = "\n".join((key.mode, key.account_id, key.event_name, key.stripe_customer))
    digest = hashlib.sha256(f"{named}\n{idempotency_key}".encode()).hexdigest()
    identifier = f"sm_direct_{digest[:40]}"
    stream = streams.wait_for(session, tenant_id, key, now=now)
    known = session.get(Push, (tenant_id, identifier), populate_existing=True)
    if known is not None:
        if (known.quantity, known.stamped_at) != (quantity, at):
            raise ConflictError("this idempotency key named other usage before")
        return _recorded(known)
    if session.scalar(
        select(func.count()).where(
            Push.tenant_id == tenant_id,
            Push.stream_id == stream.stream_id,
            Push.state.in_(OPEN_STATES),
        )
    ):
        raise ConflictError("another push of this customer and meter is on its way; try again")
    push = Push(
        tenant_id=tenant_id,
        identifier=identifier,
        stream_id=stream.stream_id,
        basis="direct",
        segment_start=at,
        quantity=quantity,
        stamped_at=at,
        state="claimed",
        attempts=1,
        outcomes=0,
        answered_failures=0,
        is_uncertain=False,
        claimed_at=now,
        lease_until=now + LEASE,
    )
    session.add(push)
    return Claim(
        tenant_id, identifier, key, quantity, at,
        attempts=1, answered_failures=0, lease_until=push.lease_until,
    )  # fmt: skip


def _found(session: Session, tenant_id: str, identifier: str) -> Push:
    return session.scalars(
        select(Push).where(Push.tenant_id == tenant_id, Push.identifier == identifier)
    ).one()


def _recorded(push: Push) -> Recorded:
    return Recorded(push.identifier, push.state, push.error)
