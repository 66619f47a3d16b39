"""Stripe's reports of meter events that it took and could not count.

A report counts errors by cause and names only some of the requests. What it names is rejected:
its usage is unsent again. If it counts more than it names, every push that it may mean is suspect
until a summary of Stripe's says more. A confirmed push is never touched: Stripe has counted it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from metering.catalog.mirror import StripeMeter
from metering.stripe import claims, reopening, settling
from metering.stripe.answers import MeterErrors, MeterReport
from metering.stripe.models import Push, PushStream

# What a report may still speak of.
UNPROVEN = ("claimed", "ambiguous", "settled", "suspect")
# By how much Stripe's word for when it judged an event may differ from ours for when it was sent.
AROUND = timedelta(minutes=5)
# How far a report that does not say from when on it counts is taken to look back.
UNSAID = timedelta(hours=24)

# By Stripe's code: what is wrong, and the way out.
CAUSES: Mapping[str, str] = {
    "archived_meter": (
        "Stripe refuses events for a deactivated meter: reactivate it, or map to another"
    ),
    "no_meter": (
        "Stripe has no active meter of this event name: create it (`stripemeter stripe"
        " provision`), or map to another"
    ),
    "meter_event_customer_not_found": (
        "Stripe does not know this customer: set the right one at /v1/customers"
    ),
    "meter_event_no_customer_defined": (
        "the meter looks for the customer under another name than stripe_customer_id: map to one"
        " that does not"
    ),
    "meter_event_invalid_value": (
        "the meter cannot read the value, or looks for it under another name than value: map to"
        " one that can"
    ),
    "meter_event_value_too_many_digits": "Stripe found more digits than it takes",
    "meter_event_dimension_count_too_high": "the meter has too many dimensions: map to another",
    "missing_dimension_payload_keys": (
        "the meter asks for dimensions, which are not sent: map to one without"
    ),
    "timestamp_too_far_in_past": "Stripe took the event to be older than it takes",
    "timestamp_in_future": (
        "Stripe took the event to be of the future: the clock of this machine is wrong"
    ),
}
_OTHER = "Stripe took the event and could not count it ({code})"
_SUSPECT = "an error report of Stripe's counts more events than it names, and may mean this one"


@dataclass(frozen=True)
class Effect:
    """How many pushes became what."""

    rejected: int = 0
    suspect: int = 0


def apply(
    session: Session,
    tenant_id: str,
    mode: str,
    account_id: str,
    report: MeterReport,
    *,
    now: datetime,
) -> Effect:
    """Reopen what the report names, and suspect what else it may mean. Again, it changes nothing.

    Whatever it names, only pushes of this tenant to this account in this mode are touched.
    """
    rejected = sum(
        _reject(session, _streams(tenant_id, mode, account_id), tenant_id, errors, now)
        for errors in sorted(report.errors, key=lambda errors: errors.code)
    )
    suspect = 0
    if any(errors.count > len(_named(errors)) for errors in report.errors):
        suspect = _suspect(session, tenant_id, mode, account_id, report, now)
    return Effect(rejected, suspect)


def _named(errors: MeterErrors) -> set[str]:
    """Identifiers of the pushes it names. Stripe names a call by its idempotency key, which on a
    repeated attempt is `identifier~n`."""
    return {sample.request.partition("~")[0] for sample in errors.samples if sample.request}


def _streams(tenant_id: str, mode: str, account_id: str) -> Select[str]:
    return select(PushStream.stream_id).where(
        PushStream.tenant_id == tenant_id,
        PushStream.mode == mode,
        PushStream.account_id == account_id,
    )


def _reject(
    session: Session,
    streams: Select[str],
    tenant_id: str,
    errors: MeterErrors,
    now: datetime,
) -> int:
    """Nothing more is sent of these streams for an hour: what is wrong is wrong until mended."""
    pushes = session.scalars(
        select(Push)
        .where(
            Push.tenant_id == tenant_id,
            Push.identifier.in_(_named(errors)),
            Push.stream_id.in_(streams),
            Push.state.in_(UNPROVEN),
        )
        .order_by(Push.identifier)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    reason = CAUSES.get(errors.code, _OTHER.format(code=errors.code))
    for push in pushes:
        push.state, push.error = "rejected", f"{errors.code}: {reason}"
        settling.block(session, push, errors.code, reason, now=now)
    reopening.reopen(session, tenant_id, pushes, now=now)
    return len(pushes)


def _suspect(
    session: Session,
    tenant_id: str,
    mode: str,
    account_id: str,
    report: MeterReport,
    now: datetime,
) -> int:
    """Have Stripe's summaries tell of every push that was under way in the report's window."""
    end_at = report.end_at or report.event.created_at
    start_at = report.start_at or end_at - UNSAID
    streams = _streams(tenant_id, mode, account_id)
    names = _event_names(session, tenant_id, mode, account_id, report.meter_id)
    if names is not None:
        streams = streams.where(PushStream.event_name.in_(names))
    elif report.meter_id is None:
        streams = streams.where(
            PushStream.event_name.not_in(_active_names(tenant_id, mode, account_id))
        )
    # What may have been taken without our knowing can have been thrown away as well. Its stream
    # stays closed: whoever sends it may be about to.
    taken = (Push.state == "settled") & (Push.settled_at >= start_at - AROUND)
    may_be_taken = (Push.state == "claimed") & (Push.is_uncertain | (Push.outcomes < Push.attempts))
    pushes = session.scalars(
        select(Push)
        .where(
            Push.tenant_id == tenant_id,
            Push.stream_id.in_(streams),
            Push.claimed_at <= end_at + AROUND,
            taken | may_be_taken,
        )
        # As whoever else locks several.
        .order_by(Push.identifier)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    for push in pushes:
        push.state = "suspect" if push.state == "settled" else "ambiguous"
        push.lease_until, push.error = now + claims.VISIBLE, _SUSPECT
    session.flush()
    return len(pushes)


def _event_names(
    session: Session, tenant_id: str, mode: str, account_id: str, meter_id: str | None
) -> Iterable[str] | None:
    """The name of the meter's events; None where it is not known: it may be that of any stream."""
    if meter_id is None:
        return None
    found = session.scalars(
        select(StripeMeter.event_name).where(
            StripeMeter.tenant_id == tenant_id,
            StripeMeter.mode == mode,
            StripeMeter.account_id == account_id,
            StripeMeter.meter_id == meter_id,
        )
    ).all()
    return found or None


def _active_names(tenant_id: str, mode: str, account_id: str) -> Select[str]:
    return select(StripeMeter.event_name).where(
        StripeMeter.tenant_id == tenant_id,
        StripeMeter.mode == mode,
        StripeMeter.account_id == account_id,
        StripeMeter.is_active,
    )
