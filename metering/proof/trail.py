"""The walk of one event: from its arrival to the line of an invoice, step by step.

Read only, from rows by key. Live and shadow are ways of their own from the counter on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import exists, or_, select
from sqlalchemy.orm import Session

from metering.catalog.models import MetricMapping
from metering.errors import NotFoundError
from metering.ledger import read
from metering.ledger.models import Event
from metering.proof import place
from metering.proof.lane import Asked, Lane, walked
from metering.proof.place import Counting
from metering.proof.steps import DONE, Step, first_open, on
from metering.stripe.destinations import Atlas
from metering.stripe.models import PushStream, StreamSource
from metering.tenancy import tenants


@dataclass(frozen=True)
class Trail:
    """steps: until the counter, in common; lanes: from there on, the one that bills first.

    status: as the list of events has it.
    """

    event: Event
    status: str
    steps: tuple[Step, ...]
    lanes: tuple[Lane, ...]

    @property
    def first_not_done(self) -> Step | None:
        """The first step that is not done on the way to the bill; a shadow is on no way there."""
        return first_open((*self.steps, *self.lanes[0].steps))


@dataclass(frozen=True)
class Calling:
    """What of the configuration the walk must know.

    default_account: the keys' own.  cannot: by mode, why Stripe cannot be called in it.
    """

    default_account: str | None
    cannot: Mapping[str, str | None]


def walk(
    session: Session, tenant_id: str, event_id: str, calling: Calling, *, now: datetime
) -> Trail:
    """Walk one event. Raises: NotFoundError if the ledger does not hold it."""
    event = read.one(session, tenant_id, event_id)
    if event is None:
        raise NotFoundError("the ledger holds no event with this id")
    counting = place.counting(session, event, now=now)
    source = counting.place.source
    atlas = Atlas(
        session,
        tenant_id,
        [source.customer_ref],
        [source.metric],
        default_account=calling.default_account,
    )
    is_test = tenants.get(session, tenant_id).mode == "test"
    ways = [("test", "test")] if is_test else [("live", "live")]
    if not is_test and _has_shadow(session, event):
        ways.append(("shadow", "test"))
    lanes = tuple(
        walked(session, Asked(event, counting, name, mode, atlas, calling.cannot.get(mode), now))
        for name, mode in ways
    )
    return Trail(event, counting.status, _common(event, counting), lanes)


def _common(event: Event, counting: Counting) -> tuple[Step, ...]:
    source = f" from {event.source}" if event.source is not None else ""
    received = Step(
        "received",
        DONE,
        f"It was received on {on(event.recorded_at)}{source}.",
        event.recorded_at,
        {"recorded_at": event.recorded_at, "source": event.source},
    )
    ledger = Step(
        "ledger",
        DONE,
        f"It is in the ledger under its key, once and for ever; it happened on"
        f" {on(event.occurred_at)}.",
        event.recorded_at,
        {
            "metric": event.metric,
            "customer_ref": event.customer_ref,
            "resource_id": event.resource_id,
            "quantity": event.quantity,
            "occurred_at": event.occurred_at,
        },
    )
    return received, ledger, counting.step


def _has_shadow(session: Session, event: Event) -> bool:
    """Whether anything of the customer's metric goes, or went, to test mode."""
    mapped = select(MetricMapping.mapping_id).where(
        MetricMapping.tenant_id == event.tenant_id,
        MetricMapping.metric == event.metric,
        MetricMapping.is_shadow,
        or_(MetricMapping.customer_ref.is_(None), MetricMapping.customer_ref == event.customer_ref),
    )
    fed = (
        select(StreamSource.stream_id)
        .join(
            PushStream,
            (PushStream.tenant_id == StreamSource.tenant_id)
            & (PushStream.stream_id == StreamSource.stream_id),
        )
        .where(
            StreamSource.tenant_id == event.tenant_id,
            StreamSource.customer_ref == event.customer_ref,
            StreamSource.metric == event.metric,
            PushStream.mode == "test",
        )
    )
    return bool(session.scalar(select(or_(exists(mapped), exists(fed)))))
