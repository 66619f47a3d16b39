"""Saved scenarios: prices compared and invoices tried out, kept under a name.

A document is JSON whose digits come back as they were sent: a price of 0.1 is never a float.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy import delete as delete_from
from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from metering.billing.models import Simulation
from metering.errors import ConflictError, InvalidInputError, NotFoundError

KINDS = ("comparison", "invoice")
MAX_NAME = 200
MAX_DOCUMENT_BYTES = 64 * 1024
# Kept from growing without end; two people who save at once may pass it by one.
MAX_SAVED = 1_000

_encoder = msgspec.json.Encoder(decimal_format="number")

# Where a page of the list ended: the last row's updated_at and id.
Place = tuple[datetime, str]


def save(
    session: Session,
    tenant_id: str,
    *,
    name: str,
    kind: str,
    document: Mapping[str, Any],
    created_by: str,
    now: datetime,
    simulation_id: str | None = None,
) -> Simulation:
    """Keep a scenario, by default under a new random id.

    Raises: InvalidInputError for a bad name, kind or document, ConflictError where the tenant
            has as many as it may.
    """
    if kind not in KINDS:
        raise InvalidInputError(f"kind must be one of {', '.join(KINDS)}", pointer="/kind")
    _check_room(session, tenant_id)
    saved = Simulation(
        tenant_id=tenant_id,
        id=simulation_id or secrets.token_urlsafe(12),
        name=_name(name),
        kind=kind,
        document=_text(document),
        created_by=created_by,
        created_at=now,
        updated_at=now,
    )
    session.add(saved)
    session.flush()
    return saved


def document(saved: Simulation) -> dict[str, Any]:
    """The document, its numbers with a fraction as Decimal."""
    read: dict[str, Any] = json.loads(saved.document, parse_float=Decimal)
    return read


def listed(
    session: Session,
    tenant_id: str,
    *,
    after: Place | None = None,
    limit: int = 25,
    kind: str | None = None,
) -> Sequence[Simulation]:
    """The tenant's scenarios, the last touched first; those beyond `after`."""
    statement = select(Simulation).where(Simulation.tenant_id == tenant_id)
    if kind is not None:
        statement = statement.where(Simulation.kind == kind)
    place = tuple_(Simulation.updated_at, Simulation.id)
    if after is not None:
        statement = statement.where(place < after)
    newest = (Simulation.updated_at.desc(), Simulation.id.desc())
    return session.scalars(statement.order_by(*newest).limit(limit)).all()


def get(session: Session, tenant_id: str, simulation_id: str) -> Simulation:
    """The scenario, or NotFoundError."""
    return _found(session, tenant_id, simulation_id, lock=False)


def rename(
    session: Session, tenant_id: str, simulation_id: str, name: str, *, now: datetime
) -> Simulation:
    """Give the scenario another name."""
    return replace(session, tenant_id, simulation_id, name=name, now=now)


def replace(
    session: Session,
    tenant_id: str,
    simulation_id: str,
    *,
    name: str | None = None,
    document: Mapping[str, Any] | None = None,
    now: datetime,
) -> Simulation:
    """Put another name or document in place of the present one; what is None stays."""
    saved = _found(session, tenant_id, simulation_id, lock=True)
    if name is not None:
        saved.name = _name(name)
    if document is not None:
        saved.document = _text(document)
    saved.updated_at = now
    session.flush()
    return saved


def duplicate(
    session: Session,
    tenant_id: str,
    simulation_id: str,
    *,
    created_by: str,
    now: datetime,
    name: str | None = None,
    copy_id: str | None = None,
) -> Simulation:
    """Save the same scenario once more, by default as a copy of its name."""
    original = get(session, tenant_id, simulation_id)
    return save(
        session,
        tenant_id,
        name=name if name is not None else f"{original.name[: MAX_NAME - 7]} (copy)",
        kind=original.kind,
        document=document(original),
        created_by=created_by,
        now=now,
        simulation_id=copy_id,
    )


def delete(session: Session, tenant_id: str, simulation_id: str) -> None:
    """Forget the scenario; NotFoundError if there is none."""
    gone = session.execute(
        delete_from(Simulation)
        .where(Simulation.tenant_id == tenant_id, Simulation.id == simulation_id)
        .returning(Simulation.id)
    )
    if gone.first() is None:
        raise _no_such(simulation_id)


def _found(session: Session, tenant_id: str, simulation_id: str, *, lock: bool) -> Simulation:
    statement = select(Simulation).where(
        Simulation.tenant_id == tenant_id, Simulation.id == simulation_id
    )
    found = session.scalar(statement.with_for_update() if lock else statement)
    if found is None:
        raise _no_such(simulation_id)
    return found


def _no_such(simulation_id: str) -> NotFoundError:
    return NotFoundError(f"there is no simulation {simulation_id!r}")


def _check_room(session: Session, tenant_id: str) -> None:
    statement = select(func.count()).where(Simulation.tenant_id == tenant_id)
    if (session.scalar(statement) or 0) >= MAX_SAVED:
        raise ConflictError(
            f"{MAX_SAVED:,} simulations are saved, as many as may be; delete one that is done with"
        )


def _name(name: str) -> str:
    trimmed = name.strip()
    if not trimmed or len(trimmed) > MAX_NAME or "\x00" in trimmed:
        raise InvalidInputError(
            f"a name has 1 to {MAX_NAME} characters and no NUL", pointer="/name"
        )
    return trimmed


def _text(document: Mapping[str, Any]) -> str:
    try:
        encoded = _encoder.encode(dict(document))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidInputError(f"is not JSON: {error}", pointer="/document") from None
    if len(encoded) > MAX_DOCUMENT_BYTES:
        raise InvalidInputError(
            f"a document has at most {MAX_DOCUMENT_BYTES // 1024} KiB; this one has"
            f" {-(-len(encoded) // 1024)}",
            pointer="/document",
        )
    return encoded.decode()
