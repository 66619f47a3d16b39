"""The console's pages about Stripe, without a browser: doors, walls, words, filters and retries."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from metering.catalog import customers
from metering.catalog.period import Span
from metering.counters import fold
from metering.database import unit_of_work
from metering.stripe import findings, shadow
from metering.stripe.claims import Outcome
from metering.stripe.models import Connection
from metering.stripe.shadow import Compared, Overall, Side
from metering.stripe.spans import Source
from metering.stripe.standing import Halt, Standing
from metering.tenancy import console
from tests.stripe_setup import Connected, FakeStripe, connect, priced, push_all, push_once
from tests.support import entry, put
from tests.webapp.support import bearer, connections_in_use, make_key, stored
from webapp import shown
from webapp.stripe_console import comparison, presenters, shadow_views, words

PAGE, SHADOW, RETRY = "/console/stripe", "/console/stripe/shadow", "/console/stripe/retry"
OWN = {"Origin": "http://localhost"}
SignIn = Callable[[str, str], FlaskClient]


@pytest.fixture
def acme(session: Session, now: datetime) -> Connected:
    return priced(session, connect(session, now=now))


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


def use(
    session: Session, to: Connected, quantity: object, at: datetime, customer: str = "cus_1"
) -> None:
    put(session, to.tenant_id, [entry(f"{customer}-{quantity}", quantity, at, customer=customer)])
    with unit_of_work(session):
        fold.fold(session, to.tenant_id, now=at)


def hold(session: Session, to: Connected, now: datetime, **quantities: int) -> None:
    """Usage of customers who are nobody in Stripe."""
    for customer, quantity in quantities.items():
        use(session, to, quantity, now, customer)
    push_all(session, to, FakeStripe(), now=now)


def text_of(client: FlaskClient, path: str = PAGE, **query: object) -> str:
    """The page as one reads it: no tags, single spaces."""
    answer = client.get(path, query_string=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return plain(answer.text)


def plain(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def listed(page: str) -> list[str]:
    """Whom the buttons of what is stuck name, in order."""
    return [unescape(each) for each in re.findall(r"Try again<span[^>]*> ([^<]+)</span>", page)]


def forms(page: str) -> list[tuple[str, dict[str, str]]]:
    """(where it goes, its hidden fields) of each form that tries something again."""
    found = re.findall(r'<form method="post" action="([^"]+)">(.*?)</form>', page, re.DOTALL)
    return [
        (
            unescape(action),
            {k: unescape(v) for k, v in re.findall(r'name="([^"]+)" value="([^"]*)"', fields)},
        )
        for action, fields in found
    ]


def test_the_first_line_says_what_is_wrong_with_the_money(
    sign_in: SignIn, session: Session, acme: Connected, now: datetime
) -> None:
    hold(session, acme, now, globex=250)
    with unit_of_work(session):
        customers.edit(session, acme.tenant_id, "globex", {"name": "Globex & <Co>"}, now=now)
    client = sign_in(acme.tenant_id, "operator")
    page = text_of(client)
    assert "1 customer needs a decision ($75.00 at stake)." in page
    assert page.index("1 customer needs") < page.index("As of")
    assert "Stuck: 1, $75.00 at stake" in page
    for said in (
        "$75.00", "250 not at Stripe", "Globex & <Co> globex api_calls", "Held",
        "It is not known which customer of Stripe globex is in live mode.",
        "Way out: set its stripeCustomerId at /v1/customers, or metadata[stripemeter_customer_ref]",
    ):  # fmt: skip
        assert said in page
    # And so does the console's first page, for those who may read it.
    home = plain(client.get("/console").text)
    assert "1 customer needs a decision ($75.00 at stake)." in home
    weak = bearer(make_key(session, acme.tenant_id, ["usage:read"], now=now))
    shut = client.application.test_client()
    assert "decision" not in shut.get("/console", headers=weak).text
    assert '"/console/stripe"' not in shut.get("/console", headers=weak).text


def test_where_nothing_goes_to_stripe_it_says_how_it_begins(
    sign_in: SignIn, client: FlaskClient, tenant: str
) -> None:
    page = text_of(sign_in(tenant, "support"))
    assert "Nothing goes to Stripe yet." in page
    assert f'"tenantId":"{tenant}"' in page
    assert '"meterEventName":"api_calls","shadow":true' in page
    assert f"stripemeter stripe bind --tenant {tenant}" in page
    # The command does what the page says.
    begun = {
        "tenantId": tenant, "metric": "api_calls", "meterEventName": "api_calls", "shadow": True
    }  # fmt: skip
    assert client.post("/v1/mappings", json=begun).status_code == 201
    page = text_of(client, tenantId=tenant)
    assert "Test mode Nothing was pushed yet, and nothing waits." in page
    assert "nobody is billed from this" in page
    assert "How it begins" not in page


def test_the_sandboxs_pages_are_the_demos_where_nobody_says(client: FlaskClient) -> None:
    for path in (PAGE, SHADOW):
        assert '<span class="whose">demo</span>' in client.get(path).text
    for path in ("/", "/console"):
        assert f'href="{PAGE}"' in client.get(path).text


def test_nobody_is_let_in_without_signing_in(shut: FlaskClient) -> None:
    for path in (PAGE, SHADOW):
        answer = shut.get(path)
        assert answer.status_code == 401
        assert "not signed in" in answer.text
    assert shut.post(RETRY, data={"id": "x"}, headers=OWN).status_code == 401


def test_scopes_open_the_pages_and_the_button(
    shut: FlaskClient, session: Session, acme: Connected, now: datetime
) -> None:
    hold(session, acme, now, globex=250)
    weak = bearer(make_key(session, acme.tenant_id, ["usage:read"], now=now))
    for path in (PAGE, SHADOW):
        refused = shut.get(path, headers=weak)
        assert refused.status_code == 403
        assert "reconciliation:read" in refused.text
    reader = bearer(make_key(session, acme.tenant_id, ["reconciliation:read"], now=now))
    page = shut.get(PAGE, headers=reader)
    assert page.status_code == 200
    assert "globex" in page.text
    assert listed(page.text) == []
    assert shut.post(RETRY, data={"id": "x"}, headers=reader).status_code == 403


@pytest.mark.parametrize(("role", "buttons"), [("operator", 1), ("finance", 0), ("support", 0)])
def test_only_the_operator_has_the_button(
    sign_in: SignIn, session: Session, acme: Connected, now: datetime, role: str, buttons: int
) -> None:
    hold(session, acme, now, globex=250)
    client = sign_in(acme.tenant_id, role)
    assert len(listed(client.get(PAGE).text)) == buttons


def test_trying_again_redirects_says_so_and_really_tries(
    sign_in: SignIn, session: Session, acme: Connected, now: datetime
) -> None:
    hold(session, acme, now, globex=150)
    client = sign_in(acme.tenant_id, "operator")
    [(action, fields)] = forms(client.get(PAGE, query_string={"kind": "held"}).text)
    with unit_of_work(session):
        told = {"stripe_customer_id": "cus_9"}
        customers.edit(session, acme.tenant_id, "globex", told, now=now)
    before = stored(session, acme.tenant_id)
    assert client.post(action, data=fields | {"csrf_token": "x"}).status_code == 403
    assert client.post(action, data={"id": fields["id"]}).status_code == 403
    assert stored(session, acme.tenant_id) == before
    answer = client.post(action, data=fields)
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith(f"{PAGE}?kind=held&said=tried")
    assert "globex, api_calls: it is being tried again." in plain(
        client.get(answer.headers["Location"]).text
    )
    stripe = FakeStripe()
    push_all(session, acme, stripe, now=now + timedelta(minutes=1))
    assert stripe.total("cus_9") == 150
    again = client.post(action, data=fields)
    assert again.status_code == 303
    page = plain(client.get(again.headers["Location"]).text)
    assert "There was nothing to try" in page
    assert "All pushed usage is confirmed" not in page
    assert client.get(RETRY).status_code == 405


def test_what_is_tried_must_be_a_name_of_ours(
    sign_in: SignIn, session: Session, acme: Connected, now: datetime
) -> None:
    hold(session, acme, now, globex=150)
    client = sign_in(acme.tenant_id, "operator")
    [(action, fields)] = forms(client.get(PAGE).text)
    for name in ("", "x", "W10="):
        answer = client.post(action, data=fields | {"id": name})
        assert (answer.status_code, answer.mimetype) == (422, "text/html")
        assert "This could not be done" in answer.text


def test_the_sandbox_takes_the_form_only_from_its_own_page(
    client: FlaskClient, session: Session, acme: Connected, now: datetime
) -> None:
    hold(session, acme, now, globex=150)
    [(action, fields)] = forms(client.get(PAGE, query_string={"tenantId": acme.tenant_id}).text)
    for headers in ({}, {"Origin": "null"}, {"Origin": "http://evil.example"}):
        assert client.post(action, data=fields, headers=headers).status_code == 401
    answer = client.post(action, data=fields, headers=OWN)
    assert answer.status_code == 303
    assert f"tenantId={acme.tenant_id}&said=tried" in answer.headers["Location"]


def test_what_is_stuck_is_filtered_in_the_address(
    sign_in: SignIn, session: Session, now: datetime
) -> None:
    acme = priced(session, connect(session, now=now), is_active=True, is_shadow=True)
    use(session, acme, 120, now, "cus_1")
    stripe = FakeStripe()
    stripe.next = [Outcome("rejected", "No such customer", status=400)] * 2
    push_once(session, acme, stripe, now=now)
    hold(session, acme, now, globex=300)
    client = sign_in(acme.tenant_id, "operator")

    def seen(**query: str) -> list[str]:
        return listed(client.get(PAGE, query_string=query).text)

    assert seen() == [
        "globex, api_calls",
        "cus_1, api_calls",
        "cus_1, api_calls",
        "globex, api_calls",
    ]
    assert seen(mode="live") == ["globex, api_calls", "cus_1, api_calls"]
    assert seen(mode="live", kind="blocked") == ["cus_1, api_calls"]
    assert seen(kind="halted") == []
    page = text_of(client)
    assert "nothing a shadow is a test that nobody pays" in page
    assert "Stuck: 4, $110.00 at stake" in page
    assert "Nothing of this mode and kind is stuck." in text_of(client, kind="halted")
    # Links keep the rest of the filter.
    assert "/console/stripe?mode=live&amp;kind=held" in client.get(f"{PAGE}?mode=live").text
    for query in ({"mode": "both"}, {"kind": "x"}, {"after": "x"}, {"after": "W10="}):
        answer = client.get(PAGE, query_string=query)
        assert (answer.status_code, answer.mimetype) == (422, "text/html")


def test_what_is_stuck_is_paged_by_the_server(
    sign_in: SignIn, session: Session, acme: Connected, now: datetime
) -> None:
    hold(session, acme, now, **{f"c{number:02}": 101 + number for number in range(27)})
    client = sign_in(acme.tenant_id, "support")
    first = client.get(PAGE).text
    assert "1 to 25 of 27" in plain(first)
    assert plain(first).index("c26") < plain(first).index("c25")
    following = re.search(r'href="([^"]+)" rel="next"', first)
    assert following
    second = plain(client.get(unescape(following[1])).text)
    assert "26 to 27 of 27" in second
    # As words: an id of somebody else may hold the same letters.
    assert [name for name in ("c00", "c01", "c02") if re.search(rf"\b{name}\b", second)] == [
        "c00",
        "c01",
    ]
    assert 'rel="next"' not in client.get(unescape(following[1])).text


def test_a_halted_account_names_those_who_wait_and_until_when(
    sign_in: SignIn, session: Session, acme: Connected, now: datetime
) -> None:
    for customer in ("cus_1", "cus_2", "cus_3", "cus_4"):
        use(session, acme, 110, now, customer)
    stripe = FakeStripe()
    stripe.next = [Outcome("auth", "Invalid API Key provided", status=401)] * 4
    push_once(session, acme, stripe, now=now)
    client = sign_in(acme.tenant_id, "operator")
    page = text_of(client)
    assert f"account {acme.account_id}" in page
    assert "and 1 more" in page
    assert "4 streams wait" in page
    assert "Stripe does not accept the key: Invalid API Key provided." in page
    assert f"{acme.account_id} : nothing is sent, tried again in" in page
    assert listed(client.get(PAGE).text) == [f"account {acme.account_id}"]
    [(action, fields)] = forms(client.get(PAGE).text)
    assert client.post(action, data=fields).status_code == 303
    session.expire_all()
    halted = session.get(Connection, (acme.tenant_id, "live", acme.account_id))
    assert halted is not None
    assert halted.halted_until is None


def test_doubt_cannot_be_hurried(
    sign_in: SignIn, session: Session, acme: Connected, now: datetime
) -> None:
    use(session, acme, 130, now)
    stripe = FakeStripe()
    stripe.next = [Outcome("duplicate", "An event already exists", status=400)]
    push_once(session, acme, stripe, now=now)
    client = sign_in(acme.tenant_id, "operator")
    page = text_of(client)
    assert "Of 1 push only Stripe's own total will tell whether it has it." in page
    assert "Way out: none is needed: Stripe's own total will tell" in page
    assert "Doubtful pushes of which only Stripe's own total can tell 1" in page
    assert forms(client.get(PAGE).text) == []


def test_another_tenants_session_sees_and_tries_nothing(
    sign_in: SignIn, session: Session, acme: Connected, stranger: str, now: datetime
) -> None:
    hold(session, acme, now, globex=250)
    [(_, theirs)] = forms(sign_in(acme.tenant_id, "operator").get(PAGE).text)
    outsider = sign_in(stranger, "operator")
    before = stored(session, acme.tenant_id)
    for path in (PAGE, SHADOW):
        assert "globex" not in outsider.get(path).text
        named = outsider.get(path, query_string={"tenantId": acme.tenant_id})
        assert (named.status_code, named.mimetype) == (403, "text/html")
        assert "globex" not in named.text
    token = re.search(r'name="csrf_token" value="([^"]+)"', outsider.get("/console").text)
    assert token
    mine = theirs | {"csrf_token": token[1]}
    tried = outsider.post(RETRY, data=mine)
    assert tried.status_code == 303
    assert "said=gone" in tried.headers["Location"]
    assert "globex" not in outsider.get(tried.headers["Location"]).text
    named = outsider.post(RETRY, data=mine, query_string={"tenantId": acme.tenant_id})
    assert named.status_code == 403
    assert stored(session, acme.tenant_id) == before


@pytest.fixture
def shadowed(session: Session, now: datetime) -> Connected:
    """Two customers, of whom the second is nobody in Stripe's test mode."""
    acme = priced(session, connect(session, now=now), is_active=True, is_shadow=True)
    with unit_of_work(session):
        told = {"shadow_stripe_customer_id": "cus_t1", "name": "First Ltd"}
        customers.edit(session, acme.tenant_id, "cus_1", told, now=now)
    at = datetime(now.year, now.month, 1, tzinfo=UTC)
    use(session, acme, 7, at)
    use(session, acme, 5, at, "cus_2")
    push_all(session, acme, FakeStripe(), now=now)
    return acme


def test_live_shadow_and_counters_are_compared_in_a_sentence(
    sign_in: SignIn, session: Session, shadowed: Connected, now: datetime
) -> None:
    client = sign_in(shadowed.tenant_id, "finance")
    page = text_of(client, SHADOW)
    assert f"{now:%B %Y}: Live, shadow and our counters agree in 1 of 2 rows." in page
    assert "The largest difference: shadow lacks 5 api_calls of cus_2." in page
    assert "In 1 row somebody must look at the difference." in page
    assert "api_calls 1 of 2 12 12 0 0 7 0 −5" in page
    assert "First Ltd cus_1 api_calls" in page
    assert "Live holds all of it; shadow is held: lacks 5." in page
    month = f"{now:%Y-%m}"
    html = client.get(SHADOW).text
    file = re.search(r'href="(/v1/stripe/shadow-report.csv[^"]*)"', html)
    assert file
    assert f"period={month}" in file[1]
    assert client.get(unescape(file[1])).text.count("\r\n") == 3
    assert connections_in_use(client.application) == 0


def test_the_months_lead_to_each_other(sign_in: SignIn, shadowed: Connected) -> None:
    client = sign_in(shadowed.tenant_id, "finance")
    html = client.get(SHADOW, query_string={"period": "2026-01"}).text
    assert "January 2026: Nothing that goes to Stripe was counted" in plain(html)
    assert f'href="{SHADOW}?period=2025-12" rel="prev"' in html
    assert f'href="{SHADOW}?period=2026-02" rel="next"' in html
    assert "shadow-report.csv" not in html
    for month in ("2026-13", "26-01", "x", "<b>"):
        answer = client.get(SHADOW, query_string={"period": month})
        assert answer.status_code == 422
        assert "This is no month; write it like 2026-11." in answer.text
        assert f'value="{month.replace("<", "&lt;").replace(">", "&gt;")}"' in answer.text
    assert client.get(SHADOW, query_string={"after": "x"}).status_code == 422


def test_the_months_end_where_the_contracts_do(sign_in: SignIn, tenant: str) -> None:
    client = sign_in(tenant, "finance")
    first = client.get(SHADOW, query_string={"period": "2000-01"}).text
    last = client.get(SHADOW, query_string={"period": "2099-12"}).text
    assert ('rel="prev"' in first, 'rel="next"' in first) == (False, True)
    assert ('rel="prev"' in last, 'rel="next"' in last) == (True, False)


def test_rows_are_paged_by_the_server(
    sign_in: SignIn, shadowed: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow_views, "ROWS", 1)
    client = sign_in(shadowed.tenant_id, "finance")
    html = client.get(SHADOW).text
    following = re.search(r'href="([^"]+after=[^"]+)" rel="next"', html)
    assert following
    rows = plain(client.get(unescape(following[1])).text).partition("All rows")[2]
    assert ("cus_2" in rows, "First Ltd" in rows) == (True, False)
    assert "First page" in rows
    # The sentence is about all rows on every page.
    assert "1 of 2 rows" in plain(client.get(unescape(following[1])).text)


def test_more_rows_than_are_added_up_are_said_in_words(
    sign_in: SignIn, shadowed: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "ADDED_UP_TO", 1)
    page = text_of(sign_in(shadowed.tenant_id, "finance"), SHADOW)
    assert "There are more than" in page
    assert "The CSV has all of them." in page
    assert "in the only row" in page


SPAN = Span(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))


def compared(live: Side, test: Side) -> Compared:
    return Compared(Source("c", "m"), SPAN, Decimal(9), live, test)


def side(state: str, owed: int = 9, pushed: int = 9) -> Side:
    return Side(state, Decimal(owed), Decimal(pushed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("live", "test", "verdict"),
    [
        (side("equal"), side("equal"), "agrees"),
        (Side("off"), side("equal"), "agrees"),
        (side("equal"), side("waiting", pushed=4), "waits"),
        (side("held", pushed=4), side("waiting", pushed=4), "differs"),
        (side("differs", pushed=4), Side("off"), "differs"),
        (side("equal"), side("shared"), "unknown"),
        (Side("off"), Side("off"), "unknown"),
    ],
)
def test_a_rows_verdict(live: Side, test: Side, verdict: str) -> None:
    assert compared(live, test).verdict == verdict


def test_words_about_a_comparison() -> None:
    assert comparison.sentence(Overall()).startswith("Nothing that goes to Stripe")
    both = [compared(side("equal"), side("equal"))] * 3
    assert comparison.sentence(shadow.overall(both)) == (
        "Live, shadow and our counters agree in all 3 rows."
    )
    only_test = [compared(Side("off"), side("equal")), compared(Side("off"), side("waiting", 9, 4))]
    found = shadow.overall(only_test)
    assert comparison.sentence(found) == (
        "Shadow and our counters agree in 1 of 2 rows."
        " The largest difference: shadow lacks 5 m of c."
    )
    assert comparison.rest(found) == "in 1 row usage waits to be sent"
    [total] = comparison.sums(found)
    assert (total.live.pushed, total.shadow.pushed, total.shadow.difference) == ("–", "13", "−5")
    too_much = shadow.overall([compared(side("differs", 9, 12), side("equal"))])
    assert comparison.furthest(too_much.apart[0]) == "live has 3 m of c too many"
    lost = compared(replace(side("unbilled"), unbilled=Decimal(4)), side("equal"))
    assert comparison.furthest(lost) == "no invoice bills 4 m of c"
    assert comparison.row(lost, {}).in_words == (
        "Live holds all of it, but took 4 after the invoice was final: no invoice bills that;"
        " shadow holds all of it."
    )
    far = [compared(side("differs", 9, 9 + n), side("equal")) for n in range(1, 30)]
    named = shadow.overall(far).apart
    assert [row.apart for row in named][:2] == [29, 28]
    assert len(named) == shadow.MOST_APART


def test_a_billing_period_in_words() -> None:
    assert comparison.period(SPAN) == "1 to 30 Nov 2026"
    moved = Span(datetime(2026, 10, 15, tzinfo=UTC), datetime(2026, 11, 15, tzinfo=UTC))
    assert comparison.period(moved) == "15 Oct to 14 Nov 2026"
    at = timedelta(hours=10, minutes=23)
    anchored = Span(moved.start_at + at, moved.end_at + at)
    assert comparison.period(anchored) == "15 Oct 10:23 to 15 Nov 2026 10:23"


def test_lag_says_until_when_an_account_is_left_alone(now: datetime) -> None:
    halts = (
        Halt("acct_1", "auth", "Invalid API Key", now + timedelta(minutes=9, seconds=1)),
        Halt("acct_2", "rate_limited", "slow down", now - timedelta(seconds=1)),
    )
    made = presenters.lag(Standing("test", mappings=1, unsent=2000, halts=halts), [], now)
    assert made.is_test
    assert made.steps[0][2] == "2,000"
    assert [until.relative for _, until in made.halts if until] == ["in 9 min", "at any moment"]
    capped = presenters.lag(Standing("live", unsent=100_000, is_lower_bound=True), [], now)
    assert capped.steps[0][2] == "100,000+"


def test_more_than_is_looked_at_is_said_to_be_more(
    sign_in: SignIn,
    session: Session,
    acme: Connected,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hold(session, acme, now, a=110, b=120, c=130)
    client = sign_in(acme.tenant_id, "operator")
    assert "More is stuck than is listed" not in text_of(client)
    monkeypatch.setattr(findings, "MOST", 2)
    page = text_of(client)
    assert "At least 3 customers need a decision (at least $" in page
    assert "Stuck: at least 2, at least $" in page
    assert "More is stuck than is listed" in page


def test_usage_that_waits_for_nothing_known_is_pointed_out(
    sign_in: SignIn, session: Session, acme: Connected, now: datetime
) -> None:
    use(session, acme, 3, now - presenters.LATE)
    client = sign_in(acme.tenant_id, "operator")
    assert "nothing that is known holds it" in text_of(client)
    waiting = Standing("live", mappings=1, unsent=1, oldest_unsent_at=now - presenters.LATE)
    assert presenters.late(waiting, now)
    assert not presenters.late(waiting, now - timedelta(seconds=1))
    assert not presenters.late(replace(waiting, blocked=1), now)
    assert not presenters.late(replace(waiting, halts=(Halt("a", "auth", "no", now),)), now)


def test_instants_and_sentences_as_people_read_them(now: datetime) -> None:
    ages = {0: "0 s ago", 59: "59 s ago", 61: "1 min ago", 7199: "1 h ago", 172_800: "2 days ago"}
    for seconds, said in ages.items():
        assert shown.relative(now - timedelta(seconds=seconds), now) == said
    assert shown.relative(now + timedelta(seconds=61), now) == "in 1 min"
    assert shown.instant(datetime(2026, 11, 7, 2, 4, 5, tzinfo=UTC)) == "7 Nov 2026, 02:04:05 UTC"
    assert words.sentence("which customer", {"globex"}) == "Which customer."
    assert words.sentence("globex has two items.", {"globex"}) == "globex has two items."
    assert words.sentence("cus_1 was deleted", set()) == "cus_1 was deleted."
