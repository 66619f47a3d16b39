"""Signed statements of a customer's billing period, and the key to check them by."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from flask import Blueprint, Response, g
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from metering.catalog.period import Span
from metering.counters import usage
from metering.database import unit_of_work
from metering.errors import DomainError, InvalidInputError
from metering.proof import form, frame, signing, statement
from metering.proof.frame import Frame
from metering.proof.signing import SigningKey
from metering.proof.statement import Step
from webapp import runtime, wire
from webapp.endpoint import Contract, endpoint
from webapp.extensions import db
from webapp.problems import ProblemError
from webapp.statements.schemas import StatementKeySchema, StatementQuerySchema

blueprint = Blueprint("statements", __name__, url_prefix="/v1/usage/statement")
MEDIA_TYPES = {"ndjson": "application/x-ndjson", "csv": "text/csv"}
NO_KEY = (
    "Statements are signed, and this installation has no key to sign with: set"
    " STATEMENT_SIGNING_KEY (32 bytes in base64)."
)


@blueprint.get("")
@endpoint(
    Contract(
        summary="A customer's billing period as a signed statement",
        scope="usage:read",
        query=StatementQuerySchema,
        statuses=(401, 403, 409, 422),
        tag="Usage",
        media_type="application/x-ndjson",
    )
)
def download(tenant_id: str, query: dict[str, Any]) -> Response:
    """Every event of the ledger in the period with where it stands, every approved adjustment, and
    the totals, one a line; the last line signs them all. `stripemeter verify FILE` checks it
    offline. A statement that could not be finished ends in a line of type `error`, unsigned."""
    key, customer_ref = signing_key(), query["customer_ref"]
    with step_of(db.engine)() as session:
        span = period(session, tenant_id, customer_ref, query.get("period_start"), g.now)
    with step_of(db.engine)() as session:
        fixed = frame.fix(session, tenant_id, customer_ref, span, now=g.now)
    name = f"statement-{span.start_at:%Y-%m-%d}.{query['format']}"
    return Response(
        written(fixed, step_of(db.engine), key, query["format"], g.now),
        mimetype=MEDIA_TYPES[query["format"]],
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "Cache-Control": "no-store",
        },
    )


@blueprint.get("/key")
@endpoint(
    Contract(
        summary="The public key that statements are signed with",
        scope=None,
        why_open="whoever is handed a statement may check it, and the key is public",
        answer=StatementKeySchema,
        statuses=(409,),
        tag="Usage",
    )
)
def public_key() -> Response:
    """For `stripemeter verify --key`: keep it, for a statement names the key that signed it, but
    only you can know whose that is."""
    key = signing_key()
    return wire.answer(
        {
            "algorithm": signing.ALGORITHM,
            "keyId": key.key_id,
            "publicKey": base64.b64encode(key.public).decode(),
        }
    )


def signing_key() -> SigningKey:
    """The installation's. Raises: ProblemError 409 if it has none."""
    secret = runtime.current().config.statement_signing_key
    if secret is None:
        raise ProblemError(409, NO_KEY)
    return SigningKey.derived(secret)


def step_of(engine: Engine) -> Step:
    """Transactions of their own: the file goes on being read when the request's session is gone."""

    @contextmanager
    def step() -> Iterator[Session]:
        with Session(engine) as session, unit_of_work(session):
            yield session

    return step


def period(
    session: Session, tenant_id: str, customer_ref: str, start: datetime | None, now: datetime
) -> Span:
    """The billing period that begins there, by default the current one that most metrics share.

    Raises: InvalidInputError if none begins there.
    """
    if start is None:
        return usage.of_customer(session, tenant_id, customer_ref, None, now=now).span
    known = usage.periods_at(session, tenant_id, customer_ref, start)
    for span in known:
        if span.start_at == start:
            return span
    raise InvalidInputError(
        "periodStart is not the start of a billing period; the one that holds it starts at "
        + wire.instant(known[0].start_at),
        pointer="/periodStart",
    )


def written(
    fixed: Frame, step: Step, key: SigningKey, form_name: str, now: datetime
) -> Iterator[bytes]:
    """The lines; what breaks it off is its last one."""
    try:
        made = statement.records(fixed, step, generated_at=now)
        yield from signing.sealed(made, key, form_name)
    except DomainError as error:
        yield form.write(form_name, {"type": "error", "note": error.message}) + b"\n"
