"""The console's pages about events, without a browser: doors, words, filters and counting again."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from html import unescape

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from metering.counters.models import DeadLetter
from metering.database import unit_of_work
from metering.tenancy import console
from tests.stripe_setup import Connected, FakeStripe, connect, priced, push_all
from tests.support import counters, entry, fold_all, put
from tests.webapp.test_dead_letters import bury
from tests.webapp.test_stripe_console import OWN, plain

HOME, WALK = "/console/events", "/console/events/walk"
LETTERS = "/console/events/dead-letters"
SignIn = Callable[[str, str], FlaskClient]


@pytest.fixture
def sign_in(shut_app: Flask, session: Session, now: datetime) -> SignIn:
    """A browser that is signed in to a tenant with a role."""

    def enter(tenant_id: str, role: str) -> FlaskClient:
        client = shut_app.test_client()
        with unit_of_work(session):
            token = console.make_link(session, tenant_id, role, now=now)
        client.post("/console/enter", data={"token": token})
        return client

    return enter


def text_of(client: FlaskClient, path: str, *, status: int = 200, **query: str) -> str:
    answer = client.get(path, query_string=query)
    assert answer.status_code == status, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return plain(answer.text)


@pytest.fixture
def acme(session: Session, now: datetime) -> Connected:
    """A live tenant with a shadow, and an event on its way."""
    acme = priced(session, connect(session, now=now), is_active=True, is_shadow=True)
    here = now - timedelta(hours=2)
    put(session, acme.tenant_id, [entry("e<1>", "1200.5", here, customer="globex")], now=here)
    fold_all(session, acme.tenant_id)
    push_all(session, acme, FakeStripe(), now=now)
    return acme


def test_the_first_line_says_what_is_not_done_and_why(client: FlaskClient, acme: Connected) -> None:
    text = text_of(client, WALK, tenantId=acme.tenant_id, id="e<1>")
    assert "It is not sent to Stripe: it is not known which customer of Stripe globex is" in text
    assert "Way out: set its stripeCustomerId at /v1/customers" in text
    assert "The first step that is not done: Sent to Stripe , stopped." in text
    assert "Event e<1> : 1,200.5 api_calls of globex" in text
    for step in ("Received Done", "In the ledger Done", "Counted Done", "Sent to Stripe Stopped"):
        assert step in text
    assert "Shadow, which bills nobody" in text


def test_an_id_is_asked_for_and_one_that_is_none_is_said(
    client: FlaskClient, session: Session, acme: Connected, tenant: str
) -> None:
    assert "Which event?" in text_of(client, WALK, tenantId=tenant)
    put(session, tenant, [entry("theirs")])
    for key in ("never", "theirs", "x" * 256, "a\x00b"):
        text = text_of(client, WALK, status=404, tenantId=acme.tenant_id, id=key)
        assert "There is no such event." in text
    assert "Counted" in text_of(client, WALK, tenantId=tenant, id="theirs")


def test_events_are_listed_filtered_and_paged(
    client: FlaskClient, session: Session, tenant: str, now: datetime
) -> None:
    assert "No event has been received yet." in text_of(client, HOME, tenantId=tenant)
    put(session, tenant, [
        entry(f"k{i:02d}", i, now - timedelta(days=1), customer=f"cus_{i % 2}") for i in range(30)
    ], now=now)  # fmt: skip
    fold_all(session, tenant)
    first = client.get(HOME, query_string={"tenantId": tenant}).text
    assert len(re.findall(r"/console/events/walk\?", first)) == 25
    following = re.search(r'href="([^"]+)" rel="next"', first)
    assert following
    rest = client.get(unescape(following[1])).text
    assert len(re.findall(r"/console/events/walk\?", rest)) == 5
    of = {"tenantId": tenant, "customerRef": "cus_1"}
    found = client.get(HOME, query_string=of).text
    assert len(re.findall(r"/console/events/walk\?", found)) == 15
    day = f"{now - timedelta(days=1):%Y-%m-%d}"
    found = client.get(HOME, query_string=of | {"from": day, "to": day, "metric": "api_calls"}).text
    assert len(re.findall(r"/console/events/walk\?", found)) == 15
    assert "No event is like this." in text_of(client, HOME, **of, metric="seats")
    wrong = text_of(client, HOME, status=422, **of, **{"from": "soon"})
    assert "is no day, such as 2026-11-30" in wrong
    wrong = text_of(client, HOME, status=422, tenantId=tenant, **{"from": day, "to": "2026-01-01"})
    assert "must not lie before the first day" in wrong


def test_dead_letters_are_counted_again_by_hand(
    client: FlaskClient, session: Session, tenant: str, now: datetime
) -> None:
    assert "Every event could be counted." in text_of(client, LETTERS, tenantId=tenant)
    bury(session, tenant, now, "a", "b")
    text = text_of(client, LETTERS, tenantId=tenant)
    assert "2 events could not be counted." in text
    assert "The database cannot hold one of its values: too large" in text
    assert "2 events could not be counted." in text_of(client, HOME, tenantId=tenant)
    of = {"tenantId": tenant}
    walked = client.get(WALK, query_string=of | {"id": "a"}).text
    assert "Count it again" in walked
    sent = client.post(
        f"{LETTERS}/resend", query_string=of, data={"id": "a", "back": "walk"}, headers=OWN
    )
    assert sent.status_code == 303
    assert "It is being counted again" in plain(client.get(sent.location).text)
    sent = client.post(f"{LETTERS}/resend", query_string=of, headers=OWN)
    assert "It is being counted again" in plain(client.get(sent.location).text)
    none = client.post(f"{LETTERS}/resend", query_string=of, headers=OWN)
    assert "There was nothing to count again" in plain(client.get(none.location).text)
    fold_all(session, tenant)
    assert [value[:2] for value in counters(session, tenant).values()] == [(3, 2)]


def test_who_may_only_look_sees_no_button(
    sign_in: SignIn, session: Session, tenant: str, now: datetime
) -> None:
    bury(session, tenant, now, "a")
    client = sign_in(tenant, "support")
    for path in (LETTERS, f"{WALK}?id=a"):
        assert "again</button>" not in client.get(path).text
    assert client.post(f"{LETTERS}/resend", data={}).status_code == 403
    operator = sign_in(tenant, "operator")
    page = operator.get(LETTERS).text
    assert "Count it again" in page
    assert operator.post(f"{LETTERS}/resend", data={}).status_code == 403  # no token
    token = re.search(r'name="csrf_token" value="(\w+)"', page)
    assert token
    sent = operator.post(f"{LETTERS}/resend", data={"csrf_token": token[1]})
    assert sent.status_code == 303
    with unit_of_work(session):
        assert session.get(DeadLetter, (tenant, "a")) is None
