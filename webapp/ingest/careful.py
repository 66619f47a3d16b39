"""The careful lane: every event by itself, under the documented schema, with every error named."""

from datetime import datetime
from typing import Any

from marshmallow import ValidationError
from msgspec import Raw

from metering.ledger import literal
from metering.ledger.append import Entry
from metering.ledger.identity import derive_key
from metering.ledger.values import read_instant
from webapp.endpoint import flatten
from webapp.ingest.batch import Batch, check_wall
from webapp.ingest.schemas import MAX_EVENTS, EventSchema
from webapp.problems import ProblemError


def read(body: bytes, own_tenant: str | None, request_key: str | None, now: datetime) -> Batch:
    """Parse any batch; see `lanes.parse` for what it takes, gives and raises."""
    events = _events_of(body)
    batch = Batch(size=len(events))
    members = [
        pair for event in events if isinstance(event, literal.Object) for pair in event.pairs
    ]
    named = [value for name, value in members if name == "tenantId" and isinstance(value, str)]
    check_wall(named, own_tenant)
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
    key = loaded.get("idempotency_key")
    if key is None and request_key is not None:
        key = f"{request_key}:{i}"
    if key is None:
        key = _derived_key(loaded)
        batch.derived.add(i)
    meta = loaded.get("meta")
    return Entry(
        idempotency_key=key,
        metric=loaded["metric"],
        customer_ref=loaded["customer_ref"],
        # As a string: "007" is a quantity, but no JSON number.
        quantity=Raw(f'"{loaded["quantity"]}"'.encode()),
        occurred_at=loaded["ts"],
        resource_id=loaded.get("resource_id"),
        meta=Raw(meta.encode()) if meta is not None else None,
        source=loaded.get("source"),
    )


def _derived_key(loaded: dict[str, Any]) -> str:
    return derive_key(
        loaded["tenant_id"],
        loaded["metric"],
        loaded["customer_ref"],
        loaded.get("resource_id"),
        read_instant(loaded["ts"]),
    )
