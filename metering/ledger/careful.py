"""Read one event of a file with every mistake named, in the words in which ingest names it.

A property test holds this to what the documented schema of ingest says of the same event.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from msgspec import Raw

from metering.ledger import literal, values
from metering.ledger.append import Entry
from metering.ledger.identity import key_of_text

Check = Callable[[Any], str | None]


class RefusedError(Exception):
    """Why a line is not in the ledger."""


def read_object(text: bytes, tenant_id: str, now: datetime) -> Entry:
    """Read an event that is a JSON text. Raises RefusedError."""
    try:
        event = literal.loads(text)
    except UnicodeDecodeError as error:
        raise RefusedError(not_utf8(text, error.start)) from None
    except RecursionError:
        raise RefusedError("is nested too deeply to be read") from None
    except ValueError as error:
        raise RefusedError(f"is not JSON: {error}") from None
    if not isinstance(event, literal.Object):
        raise RefusedError("must be an object")
    if event.repeated is not None:
        raise RefusedError(_clean(f"{event.repeated}: stands twice in this event"))
    return read(event, tenant_id, now)


def read(event: literal.Object, tenant_id: str, now: datetime) -> Entry:
    """Read an event's members. Raises RefusedError naming everything that is wrong with them.

    The tenant need not be named; if it is, it is the file's.
    """
    found: dict[str, Any] = {}
    mistakes: list[str] = []
    for name, (is_required, check) in _checks(tenant_id, now).items():
        if name not in event:
            if is_required:
                mistakes.append(f"{name}: missing data for required field")
            continue
        if event[name] is None:
            if is_required or name == "tenantId":
                mistakes.append(f"{name}: field may not be null")
            continue
        try:
            found[name] = check(event[name])
        except ValueError as error:
            mistakes += [f"{name}: {message}" for message in error.args]
    for name in sorted(set(event) - _NAMES):
        mistakes.append(f"{name.lstrip('/')}: unknown field" if name else "unknown field")
    if mistakes:
        raise RefusedError(_clean("; ".join(mistakes)))
    return _entry(found, tenant_id)


def not_utf8(text: bytes, at: int) -> str:
    """The sentence about a byte that is no UTF-8. at: its position, from 0."""
    return (
        f"is not UTF-8: byte 0x{text[at]:02X} at position {at + 1};"
        " save the file as UTF-8 and send it again"
    )


_NAMES = {
    "tenantId", "metric", "customerRef", "quantity", "ts", "idempotencyKey", "resourceId", "meta",
    "source",
}  # fmt: skip


def _checks(tenant_id: str, now: datetime) -> dict[str, tuple[bool, Check]]:
    """By name, in the schema's order: whether it must be there, and what reads it."""
    return {
        "tenantId": (False, lambda value: _tenant(value, tenant_id)),
        "metric": (True, lambda value: _text(value, 1, values.MAX_METRIC)),
        "customerRef": (True, lambda value: _text(value, 1, values.MAX_CUSTOMER)),
        "quantity": (True, _quantity),
        "ts": (True, lambda value: _ts(value, now)),
        "idempotencyKey": (False, lambda value: _text(value, 1, values.MAX_KEY)),
        "resourceId": (False, lambda value: _text(value, 0, values.MAX_RESOURCE)),
        "meta": (False, values.read_meta),
        "source": (False, lambda value: _text(value, 0, values.MAX_SOURCE)),
    }


def _text(value: Any, least: int, most: int) -> str:
    if not isinstance(value, str):
        raise ValueError("not a valid string")
    values.check_text(value)
    if not least <= len(value) <= most:
        raise ValueError(f"length must be between {least} and {most}")
    return value


def _tenant(value: Any, tenant_id: str) -> str:
    if not isinstance(value, str):
        raise ValueError("not a valid string")
    values.check_text(value)
    mistakes = []
    if not 1 <= len(value) <= values.MAX_TENANT:
        mistakes.append(f"length must be between 1 and {values.MAX_TENANT}")
    if not value.isprintable():
        mistakes.append("must be printable")
    if mistakes:
        raise ValueError(*mistakes)
    if value != tenant_id:
        raise ValueError("is another tenant than the file's")
    return value


def _quantity(value: Any) -> str:
    if isinstance(value, literal.Number):
        value = value.digits
    if not isinstance(value, str):
        raise ValueError("must be a number or a decimal string")
    values.check_quantity(value)
    return value


def _ts(value: Any, now: datetime) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string in ISO 8601 form")
    values.check_not_ahead(values.read_instant(value), now)
    return value


def _entry(found: dict[str, Any], tenant_id: str) -> Entry:
    metric, customer, ts = found["metric"], found["customerRef"], found["ts"]
    resource, meta = found.get("resourceId"), found.get("meta")
    return Entry(
        idempotency_key=found.get("idempotencyKey")
        or key_of_text(tenant_id, metric, customer, resource, ts, values.read_instant(ts)),
        metric=metric,
        customer_ref=customer,
        # As a string: "007" is a quantity, but no JSON number.
        quantity=Raw(f'"{found["quantity"]}"'.encode()),
        occurred_at=ts,
        resource_id=resource,
        meta=Raw(meta.encode()) if meta is not None else None,
        source=found.get("source"),
    )


def _clean(text: str) -> str:
    """What was sent may hold a NUL or a lone surrogate, which no row can."""
    return text.encode(errors="replace").decode().replace("\x00", "\\0")
