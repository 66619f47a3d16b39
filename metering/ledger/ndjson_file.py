"""Newline-delimited JSON: an event a line."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from metering.ledger import careful, literal
from metering.ledger.append import Entry
from metering.ledger.chunks import (
    BYTE_ORDER_MARK,
    MAX_LINE_BYTES,
    Chunk,
    Place,
    Reading,
    check_kind,
    shorten,
    too_long,
)
from metering.ledger.identity import key_of_text
from metering.ledger.plain import PlainEvent, is_plain_quantity
from metering.ledger.values import AHEAD, check_quantity, is_plain_meta, read_instant


class _Line(PlainEvent, kw_only=True):
    tenant_id: Annotated[str, Meta(min_length=1, max_length=128)] | UnsetType = UNSET


_decode = msgspec.json.Decoder(_Line).decode
# Each stands at most once in a line that is plainly good: msgspec keeps the last of two.
_ONCE = (
    b'"tenantId"', b'"metric"', b'"customerRef"', b'"quantity"', b'"ts"', b'"idempotencyKey"',
    b'"resourceId"', b'"meta"', b'"source"',
)  # fmt: skip


def read(reading: Reading, place: Place, body: bytes, *, is_last: bool, parts: int) -> Chunk:
    """Read on from a place. body: the next `parts` parts.

    Raises: FileError if it is no text at all.
    """
    data = place.rest + body
    if place.lines == 0:
        check_kind(data)
    end = len(data) if is_last else data.rfind(b"\n") + 1
    lines = data[:end].split(b"\n")
    if not lines[-1]:
        lines.pop()
    if place.lines == 0 and lines:
        lines[0] = lines[0].removeprefix(BYTE_ORDER_MARK)
    after = Place(place.parts + parts, place.lines + len(lines), shorten(data[end:]))
    chunk = Chunk(place, after, len(body), place.lines + 1, lines)
    latest = reading.now + AHEAD
    for number, line in enumerate(lines, place.lines + 1):
        if line in (b"", b"\r"):
            continue
        if len(line) > MAX_LINE_BYTES:
            chunk.refuse(number, too_long())
            continue
        try:
            entry = _plain(line, reading.tenant_id, latest)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            try:
                entry = careful.read_object(line, reading.tenant_id, reading.now)
            except careful.RefusedError as error:
                chunk.refuse(number, str(error))
                continue
        chunk.entries.append(entry)
        chunk.lines.append(number)
    return chunk


def _plain(line: bytes, tenant_id: str, latest: datetime) -> Entry:
    """The entry of a line that is plainly good; an error of any kind leaves it to the careful."""
    if not line.isascii():
        line.decode()  # msgspec does not look into what it leaves raw
    event = _decode(line)
    if event.tenant_id is not UNSET and event.tenant_id != tenant_id:
        raise ValueError
    _refuse_repeated_names(line, event)
    if not is_plain_quantity(event.quantity):
        check_quantity(bytes(event.quantity).decode().strip('"'))
    occurred_at = read_instant(event.ts)
    if occurred_at > latest:
        raise ValueError
    resource_id = None if event.resource_id is UNSET else event.resource_id
    return Entry(
        event.idempotency_key
        or key_of_text(
            tenant_id, event.metric, event.customer_ref, resource_id, event.ts, occurred_at
        ),
        event.metric,
        event.customer_ref,
        event.quantity,
        event.ts,
        resource_id,
        None if event.meta is UNSET else _plain_meta(event.meta),
        None if event.source is UNSET else event.source,
    )


def _refuse_repeated_names(line: bytes, event: _Line) -> None:
    """Raise ValueError if a name might stand twice, or behind escapes; see ingest's fast lane."""
    if b"\\" not in line:
        names = 4 + event.names() + (event.tenant_id is not UNSET)
        if sum(map(line.count, _ONCE)) == names:
            return
    if b"\\u0000" in line:
        raise ValueError
    whole = literal.loads(line)
    if whole.repeated is not None:
        raise ValueError


def _plain_meta(meta: Raw) -> Raw | None:
    text = bytes(meta)
    if text == b"null":
        return None
    if not is_plain_meta(text):
        raise ValueError
    return meta
