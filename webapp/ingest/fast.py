"""The fast lane: a good batch in one typed decode, and not a digit altered.

What is not plainly good is not judged here: the lane declines, and the careful one decides.
"""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw

from metering.ledger import literal
from metering.ledger.append import Entry
from metering.ledger.identity import key_of_text
from metering.ledger.plain import REQUIRED, PlainEvent, is_plain_quantity
from metering.ledger.values import AHEAD, check_quantity, is_plain_meta, read_instant
from webapp.ingest.batch import Batch, check_wall
from webapp.ingest.schemas import MAX_EVENTS


class _FastEvent(PlainEvent, kw_only=True):
    tenant_id: Annotated[str, Meta(min_length=1, max_length=128)]


class _FastBatch(msgspec.Struct, forbid_unknown_fields=True):
    events: Annotated[list[_FastEvent], Meta(min_length=1, max_length=MAX_EVENTS)]


_decoder = msgspec.json.Decoder(_FastBatch)
_REQUIRED = (b'"tenantId"', *REQUIRED)


class _NotPlainError(Exception):
    """The batch holds something that the fast lane leaves to the careful one."""


def read(
    body: bytes, own_tenant: str | None, request_key: str | None, now: datetime
) -> Batch | None:
    """Parse a batch whose every event is plainly good; None leaves it to the careful lane.

    Raises: ForbiddenError if any event names another tenant.
    """
    if b"\\u0000" in body:
        return None
    try:
        if not body.isascii():
            body.decode()  # msgspec does not look into what it leaves raw
        events = _decoder.decode(body).events
        _refuse_repeated_names(body, events)
        batch = _batch_of(events, request_key, now + AHEAD)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, _NotPlainError):
        return None
    named = set(batch.tenants.values())
    check_wall(named, own_tenant)
    return batch if all(map(str.isprintable, named)) else None


def _batch_of(events: list[_FastEvent], request_key: str | None, latest: datetime) -> Batch:
    """The entries of a decoded batch. One loop, for a thousand calls cost more than their work."""
    batch = Batch(size=len(events), tenants={i: e.tenant_id for i, e in enumerate(events)})
    for i, event in enumerate(events):
        if not is_plain_quantity(event.quantity):
            check_quantity(bytes(event.quantity).decode().strip('"'))
        ts = event.ts
        occurred_at = read_instant(ts)
        if occurred_at > latest:
            raise _NotPlainError
        resource_id = None if event.resource_id is UNSET else event.resource_id
        key = event.idempotency_key
        if not key:
            if request_key is not None:
                key = f"{request_key}:{i}"
            else:
                key = key_of_text(
                    event.tenant_id, event.metric, event.customer_ref, resource_id, ts, occurred_at
                )
                batch.derived.add(i)
        batch.entries[i] = Entry(
            key,
            event.metric,
            event.customer_ref,
            event.quantity,
            ts,
            resource_id,
            None if event.meta is UNSET else _plain_meta(event.meta),
            None if event.source is UNSET else event.source,
        )
    return batch


def _refuse_repeated_names(body: bytes, events: list[_FastEvent]) -> None:
    """Leave the fast lane if a name might stand twice in an event: msgspec keeps the last.

    Every event has each required name at least once, so as many occurrences as events mean that
    none is repeated; likewise for optional names and the events that have them. A name could
    also hide behind escapes.
    """
    if b"\\" not in body and _stand_once(body, events):
        return
    whole = literal.loads(body)
    if whole.repeated or any(event.repeated for event in whole["events"]):
        raise _NotPlainError


def _stand_once(body: bytes, events: list[_FastEvent]) -> bool:
    count = len(events)
    optional = (
        (b'"idempotencyKey"', sum(e.idempotency_key is not UNSET for e in events)),
        (b'"resourceId"', sum(e.resource_id is not UNSET for e in events)),
        (b'"meta"', sum(e.meta is not UNSET for e in events)),
        (b'"source"', sum(e.source is not UNSET for e in events)),
    )
    return (
        all(body.count(name) == count for name in _REQUIRED)
        and all(body.count(name) == present for name, present in optional)
        and body.count(b'"events"') == 1
    )


def _plain_meta(meta: Raw) -> Raw | None:
    text = bytes(meta)
    if text == b"null":
        return None
    if not is_plain_meta(text):
        raise _NotPlainError
    return meta
