"""Dead letters over HTTP: the list, and counting them again."""

from datetime import datetime

from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.orm import Session

from metering.counters.models import DeadLetter
from metering.database import unit_of_work
from tests.support import counters, entry, fold_all, put
from tests.webapp.support import assert_problem

LETTERS, RESEND = "/v1/events/dead-letters", "/v1/events/dead-letters/resend"


def bury(session: Session, tenant: str, now: datetime, *keys: str) -> None:
    put(session, tenant, [entry(key, "1.50") for key in keys], now=now)
    with unit_of_work(session):
        session.execute(text("DELETE FROM unfolded WHERE tenant_id = :t"), {"t": tenant})
        for key in keys:
            session.add(
                DeadLetter(
                    tenant_id=tenant, idempotency_key=key, error="22003: too large", failed_at=now
                )
            )


def test_dead_letters_are_listed_and_counted_again(
    client: FlaskClient, session: Session, tenant: str, now: datetime
) -> None:
    bury(session, tenant, now, "a", "b", "c")
    of = {"tenantId": tenant}
    page = client.get(LETTERS, query_string=of | {"limit": 2}).get_json()
    assert (page["total"], page["totalIsLowerBound"]) == (3, False)
    assert [letter["id"] for letter in page["deadLetters"]] == ["a", "b"]
    assert page["deadLetters"][0]["quantity"] == "1.5"
    said = "the database cannot hold one of its values: too large"
    assert page["deadLetters"][0]["error"] == said
    rest = client.get(LETTERS, query_string=of | {"cursor": page["nextCursor"]}).get_json()
    assert [letter["id"] for letter in rest["deadLetters"]] == ["c"]
    assert rest["nextCursor"] is None
    one = client.post(RESEND, json=of | {"ids": ["b", "never"]})
    assert one.get_json() == {"resent": 1, "void": 0}
    assert client.post(RESEND, json=of | {"all": True}).get_json() == {"resent": 2, "void": 0}
    assert fold_all(session, tenant) == 3
    assert [value[:2] for value in counters(session, tenant).values()] == [(4.5, 3)]
    assert client.get(LETTERS, query_string=of).get_json()["deadLetters"] == []


def test_it_must_be_said_which_are_counted_again(client: FlaskClient, tenant: str) -> None:
    for wrong in ({}, {"all": False}, {"ids": []}, {"ids": ["a"], "all": True}):
        answer = client.post(RESEND, json={"tenantId": tenant} | wrong)
        assert_problem(answer, 422, pointer="/ids")
    assert_problem(client.get(LETTERS, query_string={"tenantId": tenant, "cursor": "x"}), 422)
