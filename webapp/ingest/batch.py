"""From a request's bytes to ledger entries: a fast lane for good batches, a careful one for all.

The fast lane decodes with msgspec and may alter nothing; whatever it does not fully understand
goes to the careful lane, where marshmallow's schema goes over each event and names every error.
A property test holds the two to the same verdicts and the same entries.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

import msgspec
from marshmallow import ValidationError
from msgspec import UNSET, Meta, Raw, UnsetType

from metering.errors import ForbiddenError
from metering.ledger.append import Entry
from metering.ledger.identity import derive_key
from webapp import wire
from webapp.endpoint import flatten
from webapp.ingest import literal
from webapp.ingest.schemas import (
    MAX_EVENTS,
    MAX_META_BYTES,
    MAX_META_DEPTH,
    EventSchema,
    check_not_ahead,
    check_quantity,
)
from webapp.problems import ProblemError


@dataclass
class Batch:
    """A parsed request.

    entries, tenants, derived: by position, for the events that are good; `derived` holds the
        positions whose key was derived from the content.
    errors: by position, the reason of each refused event.
    keys: by position, the key of a refused event as far as it is known.
    size: the number of events sent.
    """

    size: int
    entries: dict[int, Entry] = field(default_factory=dict)
    tenants: dict[int, str] = field(default_factory=dict)
    derived: set[int] = field(default_factory=set)
    errors: dict[int, str] = field(default_factory=dict)
    keys: dict[int, str] = field(default_factory=dict)


def parse(body: bytes, *, own_tenant: str | None, request_key: str | None, now: datetime) -> Batch:
    """Parse a batch; a bad event becomes an entry in `errors`, never the end of its neighbours.

    own_tenant: the caller's; None where every tenant is (the sandbox).
    request_key: the `Idempotency-Key` header, which names events without a key of their own.
    Raises: ProblemError 400 or 413 if the whole cannot be read, ForbiddenError if any event
            names another tenant.
    """
    batch = _fast(body, own_tenant, request_key, now)
    return batch if batch is not None else _careful(body, own_tenant, request_key, now)


# ---- the fast lane -------------------------------------------------------------------------

_Text = str | UnsetType | None


class _FastEvent(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    tenant_id: Annotated[str, Meta(min_length=1, max_length=128)]
    metric: Annotated[str, Meta(min_length=1, max_length=100)]
    customer_ref: Annotated[str, Meta(min_length=1, max_length=255)]
    quantity: Raw
    ts: str
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=255)] | UnsetType | None = UNSET
    resource_id: Annotated[str, Meta(max_length=255)] | UnsetType | None = UNSET
    meta: Raw | UnsetType = UNSET
    source: Annotated[str, Meta(max_length=64)] | UnsetType | None = UNSET


class _FastBatch(msgspec.Struct, forbid_unknown_fields=True):
    events: Annotated[list[_FastEvent], Meta(min_length=1, max_length=MAX_EVENTS)]


_decoder = msgspec.json.Decoder(_FastBatch)
_PLAIN_QUANTITY = re.compile(rb'(?:0|[1-9][0-9]{0,19})(?:\.[0-9]{1,12})?|"[0-9]{1,20}"')
_REQUIRED = (b'"tenantId"', b'"metric"', b'"customerRef"', b'"quantity"', b'"ts"')


class _NotPlainError(Exception):
    """The batch holds something that the fast lane leaves to the careful one."""


def _fast(
    body: bytes, own_tenant: str | None, request_key: str | None, now: datetime
) -> Batch | None:
    if b"\\u0000" in body:
        return None
    try:
        if not body.isascii():
            body.decode()  # msgspec does not look into what it leaves raw
        events = _decoder.decode(body).events
        _refuse_repeated_names(body, events)
        batch = Batch(size=len(events))
        for i, event in enumerate(events):
            batch.tenants[i] = event.tenant_id
            batch.entries[i] = _entry(event, i, batch, request_key, now)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, _NotPlainError):
        return None
    named = set(batch.tenants.values())
    _check_wall(named, own_tenant)
    return batch if all(map(str.isprintable, named)) else None


def _refuse_repeated_names(body: bytes, events: list[_FastEvent]) -> None:
    """Leave the fast lane if a name might stand twice in an event: msgspec keeps the last.

    Every event has each required name at least once, so as many occurrences as events mean that
    none is repeated; likewise for optional names and the events that have them. A name could
    also hide behind \\u escapes.
    """
    count = len(events)
    optional = (
        (b'"idempotencyKey"', sum(e.idempotency_key is not UNSET for e in events)),
        (b'"resourceId"', sum(e.resource_id is not UNSET for e in events)),
        (b'"meta"', sum(e.meta is not UNSET for e in events)),
        (b'"source"', sum(e.source is not UNSET for e in events)),
    )
    plain = (
        all(body.count(name) == count for name in _REQUIRED)
        and all(body.count(name) == present for name, present in optional)
        and body.count(b'"events"') == 1
        and b"\\u" not in body
    )
    if plain:
        return
    whole = literal.loads(body)
    if whole.repeated or any(event.repeated for event in whole["events"]):
        raise _NotPlainError


def _entry(
    event: _FastEvent, i: int, batch: Batch, request_key: str | None, now: datetime
) -> Entry:
    quantity = bytes(event.quantity)
    if not _PLAIN_QUANTITY.fullmatch(quantity):
        check_quantity(_digits(quantity))
    occurred_at = wire.read_instant(event.ts)
    check_not_ahead(occurred_at, now)
    own_key = event.idempotency_key or None
    entry = Entry(
        idempotency_key=own_key if own_key else "",
        metric=event.metric,
        customer_ref=event.customer_ref,
        quantity=event.quantity,
        occurred_at=event.ts,
        resource_id=event.resource_id if event.resource_id is not UNSET else None,
        meta=_plain_meta(event.meta),
        source=event.source if event.source is not UNSET else None,
    )
    if own_key is None:
        _give_key(entry, i, batch, event.tenant_id, occurred_at, request_key)
    return entry


def _digits(quantity: bytes) -> str:
    text = quantity.decode()
    if text.startswith('"'):
        text = text[1:-1]
    return text


def _plain_meta(meta: Raw | UnsetType) -> Raw | None:
    if meta is UNSET:
        return None
    text = bytes(meta)
    if text == b"null":
        return None
    if not text.startswith(b"{") or len(text) > MAX_META_BYTES:
        raise _NotPlainError
    # Each level has two brackets: a short text cannot be too deep.
    if len(text) > 2 * MAX_META_DEPTH and text.count(b"{") + text.count(b"[") > MAX_META_DEPTH:
        raise _NotPlainError
    return meta


# ---- the careful lane ----------------------------------------------------------------------


def _careful(body: bytes, own_tenant: str | None, request_key: str | None, now: datetime) -> Batch:
    events = _events_of(body)
    batch = Batch(size=len(events))
    members = [
        pair for event in events if isinstance(event, literal.Object) for pair in event.pairs
    ]
    named = [value for name, value in members if name == "tenantId" and isinstance(value, str)]
    _check_wall(named, own_tenant)
    schema = EventSchema(now=now)
    for i, event in enumerate(events):
        try:
            loaded = _load(schema, event)
        except ValidationError as error:
            batch.errors[i] = _reasons(error)
            key = _known_key(event, i, request_key)
            if key is not None:
                batch.keys[i] = key
            continue
        batch.tenants[i] = loaded["tenant_id"]
        batch.entries[i] = _careful_entry(loaded, i, batch, request_key)
    return batch


def _events_of(body: bytes) -> list[Any]:
    try:
        whole = literal.loads(body)
    except RecursionError:
        raise ProblemError(400, "The body is nested too deeply to be read.") from None
    except ValueError as error:
        raise ProblemError(400, f"The body is not JSON: {error}") from None
    if not isinstance(whole, literal.Object) or not isinstance(whole.get("events"), list):
        raise ProblemError(
            400,
            'The body must be an object with a list of events: {"events": [...]}.',
            errors=[("/events", "must be a list of 1 to 1000 events")],
        )
    surplus = sorted(set(whole) - {"events"})
    if surplus or whole.repeated:
        name = surplus[0] if surplus else whole.repeated
        raise ProblemError(
            400,
            f"The body has {'an unknown' if surplus else 'a repeated'} member {name!r};"
            " only events is expected.",
            errors=[(f"/{name}", "is not expected here")],
        )
    events: list[Any] = whole["events"]
    if not events:
        raise ProblemError(
            400, "The batch is empty.", errors=[("/events", "must hold 1 to 1000 events")]
        )
    if len(events) > MAX_EVENTS:
        raise ProblemError(
            413,
            f"The batch holds {len(events)} events; send at most {MAX_EVENTS} at a time."
            " Nothing of it was stored.",
            errors=[("/events", f"must hold at most {MAX_EVENTS} events")],
        )
    return events


def _load(schema: EventSchema, event: Any) -> dict[str, Any]:
    if not isinstance(event, literal.Object):
        raise ValidationError("must be an object")
    if event.repeated:
        raise ValidationError({event.repeated: ["stands twice in this event"]})
    loaded: dict[str, Any] = schema.load(event)
    return loaded


def _reasons(error: ValidationError) -> str:
    parts = [
        f"{pointer.lstrip('/')}: {message}" if pointer != "/" else message
        for pointer, message in flatten(error.messages)
    ]
    # What was sent may hold a lone surrogate, which no answer can.
    return "; ".join(parts).encode(errors="replace").decode()


def _known_key(event: Any, i: int, request_key: str | None) -> str | None:
    own = event.get("idempotencyKey") if isinstance(event, dict) else None
    if isinstance(own, str) and own:
        return own.encode(errors="replace").decode()
    return f"{request_key}:{i}" if request_key is not None else None


def _careful_entry(loaded: dict[str, Any], i: int, batch: Batch, request_key: str | None) -> Entry:
    own_key = loaded.get("idempotency_key")
    meta = loaded.get("meta")
    entry = Entry(
        idempotency_key=own_key or "",
        metric=loaded["metric"],
        customer_ref=loaded["customer_ref"],
        # As a string: "007" is a quantity, but no JSON number.
        quantity=Raw(f'"{loaded["quantity"]}"'.encode()),
        occurred_at=loaded["ts"],
        resource_id=loaded.get("resource_id"),
        meta=Raw(meta.encode()) if meta is not None else None,
        source=loaded.get("source"),
    )
    if own_key is None:
        occurred_at = wire.read_instant(entry.occurred_at)
        _give_key(entry, i, batch, loaded["tenant_id"], occurred_at, request_key)
    return entry


# ---- both ----------------------------------------------------------------------------------


def _give_key(
    entry: Entry,
    i: int,
    batch: Batch,
    tenant_id: str,
    occurred_at: datetime,
    request_key: str | None,
) -> None:
    """Key an event without a key: after the request's, else after its own content."""
    if request_key is not None:
        entry.idempotency_key = f"{request_key}:{i}"
        return
    entry.idempotency_key = derive_key(
        tenant_id, entry.metric, entry.customer_ref, entry.resource_id, occurred_at
    )
    batch.derived.add(i)


def _check_wall(named: Any, own_tenant: str | None) -> None:
    if own_tenant is not None and any(tenant != own_tenant for tenant in set(named)):
        raise ForbiddenError("the batch names another tenant; nothing of it was stored")
