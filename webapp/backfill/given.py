"""What a request to import says: in its query beside a file, or in its JSON body."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from flask import request
from msgspec import Raw

from metering.errors import ForbiddenError
from metering.ledger import literal
from metering.ledger.uploads import Wanted
from webapp import auth
from webapp import body as request_body
from webapp.backfill import stream
from webapp.backfill.schemas import NewBackfillSchema, UploadQuerySchema
from webapp.backfill.stream import Source
from webapp.endpoint import load, query_arguments
from webapp.problems import ProblemError


@dataclass(frozen=True)
class Given:
    """digest: of a JSON body, which is at hand; of a file nothing is known before it has come."""

    tenant_id: str
    wanted: Wanted
    source: Source
    digest: str | None = None


def read() -> Given:
    """What the request asks for. Raises ProblemError, ForbiddenError, InvalidInputError."""
    query = load(UploadQuerySchema(), query_arguments())
    if request.is_json:
        return _events(query)
    tenant_id = auth.tenant(query.get("tenant_id"))
    form = stream.format_of(request)
    if "reason" not in query:
        raise _wrong("reason", "is missing in the query: say why the usage is imported")
    wanted = Wanted(form, query["reason"], query.get("late", "count"), query.get("file_name"))
    return Given(tenant_id, wanted, stream.of_request(request))


class _Named(msgspec.Struct, rename="camel"):
    tenant_id: object = None


def _events(query: dict[str, str]) -> Given:
    """Each event becomes a line, with its digits as they stand."""
    text = request_body.read(request)
    said, events = _parts(text)
    named = {each["tenant_id"] for each in (query, said) if "tenant_id" in each}
    if len(named) > 1:
        raise ForbiddenError("query and body name two tenants", pointer="/tenantId")
    tenant_id = auth.tenant(named.pop() if named else None)
    for name, wire_name in (("reason", "reason"), ("late", "late"), ("file_name", "fileName")):
        if name in query:
            raise _wrong(wire_name, "belongs into the body where the events are in it")
    _check_wall(events, tenant_id)
    wanted = Wanted("ndjson", said["reason"], said["late"])
    # A line feed in JSON can only be white space.
    lines = [event.replace(b"\n", b" ").replace(b"\r", b" ") + b"\n" for event in events]
    return Given(tenant_id, wanted, Source(iter(lines)), hashlib.sha256(text).hexdigest())


def _parts(text: bytes) -> tuple[dict[str, str], list[bytes]]:
    """(what the body says beside its events, the text of each event)."""
    try:
        text.decode()
        members = msgspec.json.decode(text, type=dict[str, Raw])
        events = bytes(members.get("events", b""))
        envelope = literal.loads(text.replace(events, b"0", 1) if events else text)
        if envelope.repeated is not None:
            raise ValueError("a name stands twice in one object")
        listed = msgspec.json.decode(events, type=list[Raw]) if events[:1] == b"[" else []
    except RecursionError:
        raise ProblemError(400, "The body is nested too deeply to be read.") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise ProblemError(400, f"The body is not a JSON object: {error}") from None
    if not listed:
        raise _wrong("events", "must be a list of one event at least")
    rest = {name: value for name, value in envelope.items() if name != "events"}
    return load(NewBackfillSchema(exclude=("events",)), rest), [bytes(each) for each in listed]


def _check_wall(events: Iterable[bytes], tenant_id: str) -> None:
    """Raise ForbiddenError if any event names another tenant; other mistakes are its line's."""
    for event in events:
        try:
            named = msgspec.json.decode(event, type=_Named).tenant_id
        except (msgspec.MsgspecError, RecursionError):
            continue
        if isinstance(named, str) and named and named != tenant_id:
            raise ForbiddenError("an event names another tenant; nothing was written")


def _wrong(name: str, message: str) -> ProblemError:
    return ProblemError(422, f"{name} {message}", errors=[(f"/{name}", message)])
