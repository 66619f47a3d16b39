"""The page shows what there is, escapes it, and moves the clock."""

import html
import http.client
import re
from urllib.parse import urlencode, urlsplit

import pytest

from sandbox.stripe import page
from sandbox.stripe.world import World
from tests.sandbox.stripe.billing import at
from tests.sandbox.stripe.calls import Caller, Clock


@pytest.fixture
def world() -> World:
    return World(clock=Clock(), calm=True)


def _text(world: World) -> str:
    return page.answer(world).body.decode()


def test_an_empty_world_says_what_will_be_here(world):
    assert "Nothing has reached Stripe yet." in _text(world)


def test_meters_and_events_are_shown(world):
    call = Caller(world)
    call.customer(name="Ada", metadata={"ref": "ada-1"})
    call.meter()
    call.send("12345.5", identifier="push-1")
    call.send("1", customer="cus_x")
    world.settle()
    text = _text(world)
    for each in ("push-1", "Ada", "ref=ada-1", "12,345.5", "✕ rejected", "2026-09-21 14:14:00"):
        assert each in text, each


def test_subscriptions_are_shown_with_their_items_and_invoices_with_all_their_lines(shop):
    customer, price = shop.customer(name="Ada"), shop.graduated(shop.meter())
    subscription = shop.subscribe(customer, price)
    shop.use(customer, "1031", at("2026-01-15 10:24:00"))
    shop.world.advance_to(at("2026-02-15 12:00:00"))
    text = _text(shop.world)
    assert re.search(rf"{subscription.id}.*{price.id}", text, re.S)
    assert "2026-02-15 10:23:45<br>2026-03-15 10:23:45" in text
    invoice = shop.invoices(customer)[-1]
    assert len(invoice.lines.data) == 4
    for line in invoice.lines.data:
        assert html.escape(line.description) in text
    assert "10.12 USD" in text


def test_what_callers_wrote_is_escaped(world):
    call = Caller(world)
    call.customer(name="<script>alert(1)</script>")
    call.meter(event_name="<b>x</b>")
    call.send("1", event_name="<b>x</b>", identifier='"><img src=x>')
    text = _text(world)
    assert "<script>alert" not in text
    assert "<b>x" not in text
    assert "<img" not in text


def test_the_buttons_move_the_clock_and_lead_back(served):
    world, url = served
    before = world.now()
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": url}
    for form in ({"advance_seconds": "3600"}, {"to": "month_end"}):
        connection.request("POST", "/_sandbox/clock", urlencode(form), headers)
        answer = connection.getresponse()
        answer.read()
        assert (answer.status, answer.headers["Location"]) == (303, "/")
    connection.request("GET", "/")
    answer = connection.getresponse()
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    answer.read()
    for name, kind in (("page.css", "text/css"), ("page.js", "text/javascript")):
        connection.request("GET", f"/_sandbox/{name}")
        answer = connection.getresponse()
        answer.read()
        assert answer.headers["Content-Type"].startswith(kind)
    connection.close()
    assert world.now() > before + 3600
    assert world.offset_seconds > 3600
    assert world.now() % 86400 < 60
