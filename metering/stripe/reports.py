"""Stripe's reports of meter events that it took and could not count.

A report counts errors by cause and names only some of the requests. What it names is rejected:
its usage is unsent again. If it counts more than it names, every push of those that it may mean
is suspect until a summary of Stripe's says more. A confirmed push is never touched: Stripe itself
has counted it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from metering.catalog.mirror import StripeMeter
from metering.stripe import unsent
from metering.stripe.models import Push, PushStream, StreamSource

# What a report may still speak of.
UNPROVEN = ("claimed", "ambiguous", "settled", "suspect")
# Stripe counts what it took within minutes: before, a summary proves nothing.
LAG = timedelta(minutes=10)
# How long after our settling Stripe may have judged an event, or before: by its own clock.
AROUND = timedelta(minutes=5)
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True)
class Cause:
    """Why a stream's events are refused: the sentence with the way out, and when to try again."""

    reason: str
    retry_in: timedelta = timedelta(hours=1)


CAUSES: Mapping[str, Cause] = {
    "archived_meter": Cause(
        "Stripe refuses events for a meter that is deactivated: reactivate it, or map to another"
    ),
    "no_meter": Cause(
        "Stripe knows no active meter of this event name: create it"
        " (`stripemeter stripe provision`), or map to another"
    ),
    "meter_event_customer_not_found": Cause(
        "Stripe does not know this customer: set the right one at /v1/customers"
    ),
    "meter_event_no_customer_defined": Cause(
        "the meter looks for the customer under another name than stripe_customer_id: map to a"
        " meter that does not"
    ),
    "meter_event_invalid_value": Cause(
        "the meter looks for the value under another name than value, or cannot read it: map to a"
        " meter that can"
    ),
    "meter_event_value_too_many_digits": Cause("Stripe found more digits than it takes"),
    "meter_event_dimension_count_too_high": Cause("the meter asks for too many dimensions"),
    "missing_dimension_payload_keys": Cause(
        "the meter asks for dimensions, which are not sent: map to a meter without"
    ),
    "timestamp_too_far_in_past": Cause("Stripe took the events for too old", timedelta(minutes=5)),
    "timestamp_in_future": Cause(
        "Stripe took the events to be of the future: set this machine's clock",
        timedelta(minutes=5),
    ),
}


@dataclass(frozen=True)
class Report:
    """meter_id: None where no meter was found.  named: identifiers by cause.

    errors: how many events were refused, at least as many as are named.
    """

    meter_id: str | None
    start_at: datetime
    end_at: datetime
    errors: int
    named: Mapping[str, Sequence[str]]

    @property
    def counts_more_than_it_names(self) -> bool:
        return self.errors > sum(len(identifiers) for identifiers in self.named.values())


@dataclass(frozen=True)
class Effect:
    """How many pushes became what."""

    rejected: int = 0
    suspect: int = 0


def read(data: Mapping[str, Any], meter_id: str | None, created_at: datetime) -> Report:
    """A report from the event's `data`. What is missing in it is taken for the worse."""
    reason = _object(data.get("reason"))
    named: dict[str, list[str]] = {}
    counted = 0
    for each in map(_object, _list(reason.get("error_types"))):
        identifiers = named.setdefault(str(each.get("code")), [])
        samples = [_object(sample) for sample in _list(each.get("sample_errors"))]
        for sample in samples:
            identifier = _object(sample.get("request")).get("identifier")
            if isinstance(identifier, str):
                identifiers.append(identifier)
        counted += max(_count(each.get("error_count")), len(samples))
    end_at = _instant(data.get("validation_end")) or created_at
    return Report(
        meter_id=meter_id,
        start_at=_instant(data.get("validation_start")) or end_at - timedelta(hours=1),
        end_at=end_at,
        errors=max(counted, _count(reason.get("error_count"))),
        named=named,
    )


def apply(
    session: Session,
    tenant_id: str,
    mode: str,
    account_id: str,
    report: Report,
    *,
    now: datetime,
) -> Effect:
    """Reopen what the report names, and suspect what else it may mean. Again, it changes nothing.

    Whatever it names, only pushes of this tenant, to this account in this mode, are touched.
    """
    rejected = 0
    for code, identifiers in sorted(report.named.items()):
        rejected += _reject(session, tenant_id, mode, account_id, code, identifiers, now)
    suspect = 0
    if report.counts_more_than_it_names:
        suspect = _suspect(session, tenant_id, mode, account_id, report, now)
    return Effect(rejected, suspect)


def _reject(
    session: Session,
    tenant_id: str,
    mode: str,
    account_id: str,
    code: str,
    identifiers: Iterable[str],
    now: datetime,
) -> int:
    cause = CAUSES.get(code, Cause(f"Stripe refused the events ({code})"))
    streams = select(PushStream.stream_id).where(
        PushStream.tenant_id == tenant_id,
        PushStream.mode == mode,
        PushStream.account_id == account_id,
    )
    # Of a repeated attempt Stripe names the idempotency key: `identifier~n`.
    wanted = sorted({identifier.partition("~")[0] for identifier in identifiers})
    reopened = session.execute(
        update(Push)
        .where(
            Push.tenant_id == tenant_id,
            Push.identifier.in_(wanted),
            Push.stream_id.in_(streams),
            Push.state.in_(UNPROVEN),
        )
        .values(state="rejected", error=f"{code}: {cause.reason}")
        .returning(Push.stream_id, Push.segment_start)
        .execution_options(synchronize_session=False)
    ).all()
    for stream_id in sorted({stream_id for stream_id, _ in reopened}):
        _block(session, tenant_id, stream_id, code, cause, now)
        starts = sorted(start for of, start in reopened if of == stream_id)
        _mark(session, tenant_id, stream_id, starts, now)
    return len(reopened)


def _block(
    session: Session, tenant_id: str, stream_id: str, code: str, cause: Cause, now: datetime
) -> None:
    session.execute(
        update(PushStream)
        .where(PushStream.tenant_id == tenant_id, PushStream.stream_id == stream_id)
        .values(
            blocked_kind=code,
            blocked_reason=cause.reason,
            blocked_at=now,
            retry_at=now + cause.retry_in,
        )
        .execution_options(synchronize_session=False)
    )


def _mark(
    session: Session, tenant_id: str, stream_id: str, starts: Iterable[datetime], now: datetime
) -> None:
    """Have the segments looked at again; a stream that is blocked puts them off itself."""
    sources = session.execute(
        select(StreamSource.customer_ref, StreamSource.metric).where(
            StreamSource.tenant_id == tenant_id, StreamSource.stream_id == stream_id
        )
    ).all()
    for start in starts:
        for customer_ref, metric in sources:
            unsent.mark(
                session, tenant_id, customer_ref, metric,
                since=start, until=start + _INSTANT, now=now,
            )  # fmt: skip


def _suspect(
    session: Session, tenant_id: str, mode: str, account_id: str, report: Report, now: datetime
) -> int:
    """Have Stripe's summaries tell of every push that was under way in the report's window."""
    streams = select(PushStream.stream_id).where(
        PushStream.tenant_id == tenant_id,
        PushStream.mode == mode,
        PushStream.account_id == account_id,
    )
    active = select(StripeMeter.event_name).where(
        StripeMeter.tenant_id == tenant_id,
        StripeMeter.mode == mode,
        StripeMeter.account_id == account_id,
    )
    if report.meter_id is None:
        streams = streams.where(PushStream.event_name.not_in(active.where(StripeMeter.is_active)))
    else:
        name = session.scalar(active.where(StripeMeter.meter_id == report.meter_id))
        # A meter that we do not know might be that of any stream.
        if name is not None:
            streams = streams.where(PushStream.event_name == name)
    found = session.execute(
        update(Push)
        .where(
            Push.tenant_id == tenant_id,
            Push.stream_id.in_(streams),
            Push.state == "settled",
            Push.settled_at >= report.start_at - AROUND,
            Push.claimed_at <= report.end_at + AROUND,
        )
        .values(state="suspect", lease_until=now + LAG, error=_SUSPECT)
        .returning(Push.identifier)
        .execution_options(synchronize_session=False)
    )
    return len(found.all())


_SUSPECT = "an error report of Stripe's counts more events than it names, and may mean this one"


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _instant(value: Any) -> datetime | None:
    try:
        at = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return at if at.tzinfo is not None else None
