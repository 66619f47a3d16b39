"""What the tests of the HTTP edge share: making events, sending them, and looking at the rows."""

import json
import random
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from metering.database import Base, unit_of_work
from metering.tenancy import keys, scopes
from webapp.extensions import db

AppMaker = Callable[..., Flask]
TS = "2026-01-16T14:30:00Z"
INGEST = "/v1/events/ingest"


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at


def event(tenant_id: str, **changes: Any) -> dict[str, Any]:
    """A good event, with what the test cares about changed; None takes a member away."""
    made = {
        "tenantId": tenant_id,
        "metric": "api_calls",
        "customerRef": "cus_1",
        "quantity": 1,
        "ts": TS,
    } | changes
    return {name: value for name, value in made.items() if value is not None}


def ingest(
    client: FlaskClient, events: Sequence[Any], *, headers: dict[str, str] | None = None
) -> TestResponse:
    """POST the events."""
    return client.post(INGEST, json={"events": list(events)}, headers=headers)


def send(client: FlaskClient, body: str | bytes, **options: Any) -> TestResponse:
    """POST a body of the test's own making to ingest, as JSON."""
    return client.post(INGEST, data=body, content_type="application/json", **options)


def raw_batch(tenant_id: str, *members: str) -> str:
    """A batch as text: each event is the good one's required members with these in their place.

    members: JSON texts `"name": value`, the same name twice where the test says so.
    """
    return in_batch(*(raw_event(tenant_id, member) for member in members))


def in_batch(*events: str) -> str:
    """The texts of events as the text of a batch."""
    return f'{{"events": [{", ".join(events)}]}}'


def raw_event(tenant_id: str, *members: str) -> str:
    """One event as text; a member given replaces the default one of its name."""
    given = {name for member in members for name in json.loads(f"{{{member}}}", parse_int=str)}
    defaults = [
        f"{json.dumps(name)}: {json.dumps(value)}"
        for name, value in event(tenant_id).items()
        if name not in given
    ]
    return f"{{{', '.join([*defaults, *members])}}}"


def statuses(answer: TestResponse) -> list[str]:
    """The verdicts of an ingest, in the order of the answer."""
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return [result["status"] for result in answer.get_json()["results"]]


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def make_key(session: Session, tenant_id: str, wanted: Iterable[str], *, now: datetime) -> str:
    """A key of the tenant with these scopes; its secret."""
    with unit_of_work(session):
        _, secret = keys.create(
            session,
            tenant_id,
            name="made by a test",
            scopes=wanted,
            granted_by=scopes.ALL,
            created_by="test",
            now=now,
        )
    return secret


def stored(session: Session, tenant_id: str) -> dict[str, list[str]]:
    """Every row of the tenant in every table, as text: what a request may not have changed."""
    rows = {
        table.name: list(
            session.execute(
                text(f"SELECT t::text FROM {table.name} t WHERE tenant_id = :t ORDER BY 1"),
                {"t": tenant_id},
            ).scalars()
        )
        for table in Base.metadata.sorted_tables
    }
    session.rollback()
    return rows


def row_counts(session: Session) -> dict[str, int]:
    """How many rows each table of the schema holds."""
    counts = {
        table.name: session.execute(text(f"SELECT count(*) FROM {table.name}")).scalar_one()
        for table in Base.metadata.sorted_tables
    }
    session.rollback()
    return counts


def connections_in_use(app: Flask) -> int:
    """How many connections to the database the app has not given back."""
    with app.app_context():
        return int(db.engine.pool.checkedout())  # type: ignore[attr-defined]


def event_count(session: Session, tenant_id: str) -> int:
    return len(stored(session, tenant_id)["events"])


def incompressible(length: int, *, alphabet: Sequence[str], seed: int = 1) -> str:
    """Text that Postgres cannot make smaller."""
    return "".join(random.Random(seed).choices(alphabet, k=length))


def assert_problem(answer: TestResponse, status: int, *, pointer: str | None = None) -> str:
    """The answer is this problem document, in the contract's form; its detail."""
    shown = answer.get_data(as_text=True)
    assert answer.status_code == status, shown
    assert answer.mimetype == "application/problem+json"
    body = answer.get_json()
    assert body["type"] == "about:blank"
    assert body["status"] == status
    assert body["title"]
    assert body["requestId"] == answer.headers["X-Request-Id"]
    assert body["detail"], "a problem says what is wrong"
    for error in body.get("errors", []):
        assert error["pointer"].startswith("/")
        assert error["message"]
    if pointer is not None:
        assert pointer in [error["pointer"] for error in body["errors"]], shown
    detail: str = body["detail"]
    return detail
