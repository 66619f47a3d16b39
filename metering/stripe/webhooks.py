"""What Stripe tells us unasked: taken once, in any order, and never believed beyond "look again".

    read      what an event is about; nothing else of it is used
    take      write it down, in the transaction that is answered with a 200
    claim     begin to handle it
    (look)    ask Stripe for the object as it is now; no transaction is open
    note      write down what Stripe said

As the object is read again, it does not matter in which order events arrive, nor how often. What
fails is done again: by Stripe's own redelivery, and by the sweep.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from metering import installation
from metering.errors import InvalidInputError
from metering.stripe.models import WebhookDelivery

Subject = Literal["customer", "invoice", "meter", "price", "report", "subscription"]
Taken = Literal["taken", "waiting", "duplicate"]

# What is read again upon which event. Other events are none of ours.
SUBJECTS: Mapping[str, Subject] = {
    "billing.meter.created": "meter",
    "billing.meter.updated": "meter",
    "billing.meter.deactivated": "meter",
    "billing.meter.reactivated": "meter",
    "billing.meter.error_report_triggered": "report",
    "billing.meter.no_meter_found": "report",
    "customer.created": "customer",
    "customer.updated": "customer",
    "customer.deleted": "customer",
    "customer.subscription.created": "subscription",
    "customer.subscription.updated": "subscription",
    "customer.subscription.deleted": "subscription",
    "customer.subscription.paused": "subscription",
    "customer.subscription.resumed": "subscription",
    "customer.subscription.trial_will_end": "subscription",
    "invoice.created": "invoice",
    "invoice.updated": "invoice",
    "invoice.deleted": "invoice",
    "invoice.finalized": "invoice",
    "invoice.finalization_failed": "invoice",
    "invoice.marked_uncollectible": "invoice",
    "invoice.paid": "invoice",
    "invoice.voided": "invoice",
    "price.created": "price",
    "price.updated": "price",
    "price.deleted": "price",
}
# Begun and not ended, an attempt is given up after this long; then ever longer, to an hour.
PATIENCE = timedelta(seconds=60)
LONGEST = timedelta(hours=1)
# Two of our clocks may be apart by this much.
CLOCKS_APART = timedelta(seconds=5)

_ID = re.compile(r"[A-Za-z0-9_.-]{1,255}")
_TYPE = re.compile(r"[a-z0-9_.]{1,200}")


@dataclass(frozen=True)
class Notice:
    """An event, reduced to what it is about.

    account_id: None: the account of the keys themselves.
    object_id:  None where the event is about itself (a report) or about nothing that has an id.
    """

    event_id: str
    type: str
    mode: str
    account_id: str | None
    object_id: str | None

    @property
    def subject(self) -> Subject | None:
        """What is to be read again; None: nothing."""
        subject = subject_of(self.type)
        return subject if subject == "report" or self.object_id is not None else None


@dataclass(frozen=True)
class Delivery:
    """A taken event whose handling has begun."""

    tenant_id: str
    mode: str
    event_id: str
    account_id: str
    subject: Subject | None
    object_id: str | None


def subject_of(type: str) -> Subject | None:
    """Thin events are named like their snapshots, with the version before."""
    return SUBJECTS.get(type.removeprefix("v1."))


def read(body: bytes) -> Notice:
    """What an event is about, in either of Stripe's forms: a snapshot, or thin.

    Raises: InvalidInputError if it is no event.
    """
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidInputError("the body is not JSON") from None
    kind = event.get("object") if isinstance(event, dict) else None
    if kind not in ("event", "v2.core.event"):
        raise InvalidInputError("the body is not an event of Stripe's")
    about, account = _snapshot(event) if kind == "event" else _thin(event)
    if not isinstance(event.get("livemode"), bool):
        raise InvalidInputError("the event does not say whether it is live", pointer="/livemode")
    return Notice(
        event_id=_text(event.get("id"), _ID, "/id"),
        type=_text(event.get("type"), _TYPE, "/type"),
        mode="live" if event["livemode"] else "test",
        account_id=None if account is None else _text(account, _ID, "/account"),
        object_id=None if about is None else _text(about, _ID, "/data/object/id"),
    )


def _snapshot(event: Mapping[str, Any]) -> tuple[Any, Any]:
    data = event.get("data")
    about = data.get("object") if isinstance(data, dict) else None
    return about.get("id") if isinstance(about, dict) else None, event.get("account")


def _thin(event: Mapping[str, Any]) -> tuple[Any, Any]:
    about, context = event.get("related_object"), event.get("context")
    if isinstance(context, str):
        # An organisation's context is a path that ends in the account.
        context = context.rpartition("/")[2]
    return about.get("id") if isinstance(about, dict) else None, context


def _text(value: Any, form: re.Pattern[str], pointer: str) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise InvalidInputError(f"{pointer[1:]} is not one of Stripe's", pointer=pointer)
    return value


def take(
    session: Session, tenant_id: str, notice: Notice, account_id: str, *, now: datetime
) -> Taken:
    """Write the event down unless it is known. `waiting`: it is, but is not yet handled."""
    values = {
        "tenant_id": tenant_id,
        "mode": notice.mode,
        "event_id": notice.event_id,
        "account_id": account_id,
        "type": notice.type,
        "object_id": notice.object_id,
        "received_at": now,
        "due_at": now,
    }
    statement = insert(WebhookDelivery).values(**values).on_conflict_do_nothing()
    if session.execute(statement.returning(WebhookDelivery.event_id)).first() is not None:
        return "taken"
    # Of another account, the same id is another event; Stripe makes no such ids.
    again = (
        update(WebhookDelivery)
        .where(
            WebhookDelivery.tenant_id == tenant_id,
            WebhookDelivery.mode == notice.mode,
            WebhookDelivery.event_id == notice.event_id,
            WebhookDelivery.handled_at.is_(None),
        )
        .values(due_at=now)
        .returning(WebhookDelivery.event_id)
    )
    return "waiting" if session.execute(again).first() is not None else "duplicate"


def claim(
    session: Session, tenant_id: str, mode: str, event_id: str, *, now: datetime
) -> Delivery | None:
    """Begin to handle a taken event; None if another does, or nothing is left to do."""
    row = session.scalar(
        select(WebhookDelivery)
        .where(
            WebhookDelivery.tenant_id == tenant_id,
            WebhookDelivery.mode == mode,
            WebhookDelivery.event_id == event_id,
            WebhookDelivery.due_at <= now,
        )
        .with_for_update(skip_locked=True)
    )
    if row is None:
        return None
    if installation.tenant_of_account(session, row.account_id) != tenant_id:
        row.due_at, row.handled_at = None, now
        row.error = f"the Stripe account {row.account_id} is not bound to this tenant any more"
        return None
    row.due_at = now + min(LONGEST, PATIENCE * 2 ** min(row.attempts, 10))
    row.attempts += 1
    return Delivery(tenant_id, mode, event_id, row.account_id, subject_of(row.type), row.object_id)


def finish(session: Session, delivery: Delivery, *, asked_at: datetime, now: datetime) -> None:
    """The event is handled, and with it every earlier one about the same object: Stripe was asked
    only after they had come."""
    of_object = (
        WebhookDelivery.tenant_id == delivery.tenant_id,
        WebhookDelivery.mode == delivery.mode,
        WebhookDelivery.handled_at.is_(None),
    )
    done = {"handled_at": now, "due_at": None, "error": None}
    session.execute(
        update(WebhookDelivery)
        .where(*of_object, WebhookDelivery.event_id == delivery.event_id)
        .values(**done)
    )
    if delivery.subject == "report" or delivery.object_id is None:
        return
    session.execute(
        update(WebhookDelivery)
        .where(
            *of_object,
            WebhookDelivery.account_id == delivery.account_id,
            WebhookDelivery.object_id == delivery.object_id,
            WebhookDelivery.received_at <= asked_at - CLOCKS_APART,
            WebhookDelivery.type.in_(
                [type for type, subject in _NAMES.items() if subject == delivery.subject]
            ),
        )
        .values(**done)
    )


# A report is also about a meter, but is not handled by reading the meter.
_NAMES = {
    f"{prefix}{type}": subject for type, subject in SUBJECTS.items() for prefix in ("", "v1.")
}


def fail(session: Session, delivery: Delivery, error: str) -> None:
    """Say why the attempt failed; when the next one is begun was said at the claim."""
    session.execute(
        update(WebhookDelivery)
        .where(
            WebhookDelivery.tenant_id == delivery.tenant_id,
            WebhookDelivery.mode == delivery.mode,
            WebhookDelivery.event_id == delivery.event_id,
            WebhookDelivery.handled_at.is_(None),
        )
        .values(error=error)
    )
