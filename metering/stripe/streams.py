"""Push streams: what they are, how they are found or made, and who feeds them."""

import secrets
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from datetime import datetime

from sqlalchemy import select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from metering.stripe.models import PushStream, StreamSource
from metering.stripe.spans import Source


@dataclass(frozen=True, order=True)
class StreamKey:
    """A stream by what it is; see `models.PushStream`."""

    mode: str
    account_id: str
    event_name: str
    stripe_customer: str


def key_of(stream: PushStream) -> StreamKey:
    """What the stream is."""
    return StreamKey(stream.mode, stream.account_id, stream.event_name, stream.stripe_customer)


def lock(
    session: Session, tenant_id: str, keys: Iterable[StreamKey], *, now: datetime
) -> dict[StreamKey, PushStream]:
    """The streams that nobody else works on, made where they are new, each locked."""
    return _found(session, tenant_id, keys, now, skip_locked=True)


def wait_for(session: Session, tenant_id: str, key: StreamKey, *, now: datetime) -> PushStream:
    """The stream, made where it is new, locked as soon as nobody else works on it."""
    return _found(session, tenant_id, [key], now, skip_locked=False)[key]


def _found(
    session: Session, tenant_id: str, keys: Iterable[StreamKey], now: datetime, *, skip_locked: bool
) -> dict[StreamKey, PushStream]:
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    made = [
        {
            "tenant_id": tenant_id,
            "stream_id": f"str_{secrets.token_hex(12)}",
            "mode": key.mode,
            "account_id": key.account_id,
            "event_name": key.event_name,
            "stripe_customer": key.stripe_customer,
            "created_at": now,
        }
        for key in wanted
    ]
    session.execute(insert(PushStream).on_conflict_do_nothing(), made)
    names = tuple_(
        PushStream.mode, PushStream.account_id, PushStream.event_name, PushStream.stripe_customer
    )
    found = session.scalars(
        select(PushStream)
        .where(PushStream.tenant_id == tenant_id, names.in_([astuple(key) for key in wanted]))
        .with_for_update(skip_locked=skip_locked)
    )
    return {key_of(stream): stream for stream in found}


def by_id(session: Session, tenant_id: str, ids: Iterable[str]) -> dict[str, PushStream]:
    """Streams by their ids."""
    rows = session.scalars(
        select(PushStream).where(PushStream.tenant_id == tenant_id, PushStream.stream_id.in_(ids))
    )
    return {row.stream_id: row for row in rows}


def feed(session: Session, tenant_id: str, fed: Iterable[tuple[str, Source]]) -> None:
    """Remember who feeds which stream, by its id."""
    rows = [
        {
            "tenant_id": tenant_id,
            "stream_id": stream_id,
            "customer_ref": source.customer_ref,
            "metric": source.metric,
        }
        for stream_id, source in fed
    ]
    if rows:
        session.execute(insert(StreamSource).on_conflict_do_nothing(), rows)


def sources(session: Session, tenant_id: str, ids: Iterable[str]) -> dict[str, list[Source]]:
    """Who feeds these streams, or once did, by the stream's id."""
    found: dict[str, list[Source]] = {stream_id: [] for stream_id in ids}
    rows = session.scalars(
        select(StreamSource).where(
            StreamSource.tenant_id == tenant_id, StreamSource.stream_id.in_(found)
        )
    )
    for row in rows:
        found[row.stream_id].append(Source(row.customer_ref, row.metric))
    return found
