"""Nimbus, the demo's product with the widget in it: its backend, its page and the page's policy."""

import http.client
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sandbox.demo.host import HOURS, Host, past
from sandbox.demo.http import Api, RefusedError
from sandbox.demo.site import Demo, Site

START = datetime(2026, 11, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)


class Product(Api):
    """Takes events as the product does, once by key, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:3000")
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self.keys: set[str] = set()
        self.refuses = False

    def post(self, path: str, body: Mapping[str, Any], method: str = "POST") -> Any:
        self.asked.append((path, body))
        if self.refuses:
            raise RefusedError(f"POST {path}", 503, {"detail": "The database is away."})
        if path == "/v1/widget/tokens":
            return {"token": "smw_made"}
        keys = {each["idempotencyKey"] for each in body["events"]}
        new = keys - self.keys
        self.keys |= keys
        return {"accepted": len(new), "duplicates": len(keys) - len(new), "rejected": 0}


@pytest.fixture
def product() -> Product:
    return Product()


@pytest.fixture
def host(product: Product) -> Host:
    return Host(product, lambda: NOW, lambda _: START, ["http://localhost:3002"])


def test_a_token_is_for_who_is_signed_in_and_for_the_own_pages(
    host: Host, product: Product
) -> None:
    assert host.token() == {"token": "smw_made"}
    wanted = {"tenantId": "demo", "customerRef": "aurora", "origins": ["http://localhost:3002"]}
    assert product.asked == [("/v1/widget/tokens", wanted)]


def test_a_thousand_calls_are_a_thousand_events_of_now(host: Host, product: Product) -> None:
    told = host.uses["calls"]()
    assert told["events"] == len(product.keys) == 1000
    assert re.fullmatch(r"1,000 calls accepted in \d+ ms\.", told["said"])
    [(_, body)] = product.asked
    kinds = Counter((e["metric"], e["customerRef"], e["quantity"], e["ts"]) for e in body["events"])
    assert kinds == {("api_calls", "aurora", 1, NOW.isoformat()): 1000}
    assert host.uses["calls"]()["events"] == 1000
    assert len(product.keys) == 2000


def test_storage_is_one_event(host: Host, product: Product) -> None:
    assert re.fullmatch(r"40 GB accepted in \d+ ms\.", host.uses["storage"]()["said"])
    [(_, body)] = product.asked
    assert [(e["metric"], e["quantity"]) for e in body["events"]] == [("storage_gb", 40)]


def test_the_days_before_are_filled_in_once(host: Host) -> None:
    first, again = host.uses["days"](), host.uses["days"]()
    assert first["events"] == again["events"] > 50
    assert "before." not in first["said"]
    assert re.match(r"0 events .*; \d+ were there before\.", again["said"])


def test_the_past_lies_in_the_period_on_each_of_its_days() -> None:
    events = list(past(START, NOW))
    assert events == list(past(START, NOW))
    instants = [datetime.fromisoformat(each["ts"]) for each in events]
    assert all(START <= each < NOW for each in instants)
    assert {each.date() for each in instants} == {
        (START + timedelta(days=days)).date() for days in range(20)
    }
    assert len({each["idempotencyKey"] for each in events}) == len(events)


def test_a_period_that_has_just_begun_has_no_past(product: Product) -> None:
    start = START + timedelta(hours=HOURS[-1] + 1)
    now = start + timedelta(minutes=1)
    told = Host(product, lambda: now, lambda _: start, []).uses["days"]()
    assert told["events"] == 0
    assert product.asked == []


class Calling:
    """A browser's requests to the served demo."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __call__(
        self, method: str, path: str, headers: Mapping[str, str] = {}
    ) -> tuple[http.client.HTTPResponse, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            given = {"Host": f"localhost:{self.port}", **headers}
            connection.request(method, path, headers=given)
            answer = connection.getresponse()
            return answer, answer.read().decode()
        finally:
            connection.close()


@pytest.fixture
def call(product: Product, port: int) -> Iterator[Calling]:
    site = Site(port, Demo(product, Api("http://127.0.0.1:1"), port))
    thread = threading.Thread(target=site.serve_forever)
    thread.start()
    yield Calling(port)
    site.shutdown()
    thread.join()
    site.server_close()


def test_the_page_embeds_the_widget_as_the_documents_say(call: Calling) -> None:
    answer, text = call("GET", "/app")
    assert answer.status == 200
    assert '<div id="usage-widget"></div>' in text
    assert '<script src="http://localhost:3000/widget.js" defer></script>' in text
    assert "{{" not in text
    _, script = call("GET", "/app.js")
    assert "StripeMeterWidget.initStripeMeterWidget(" in script


def test_the_page_is_under_a_strict_policy_and_keeps_to_it(call: Calling) -> None:
    answer, text = call("GET", "/app?theme=dark")
    policy = dict(
        each.strip().partition(" ")[::2]
        for each in (answer.headers["Content-Security-Policy"]).split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self' http://localhost:3000"
    assert policy["frame-src"] == "http://localhost:3000"
    assert policy["style-src"] == "'self'"
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=", text)


def test_only_the_products_page_may_load_from_elsewhere(call: Calling) -> None:
    answer, text = call("GET", "/")
    assert ":3000" not in answer.headers["Content-Security-Policy"]
    assert 'href="/app"' in text


@pytest.mark.parametrize("path", ["/app.css", "/app.js", "/app.svg"])
def test_its_files_are_served(call: Calling, path: str) -> None:
    assert call("GET", path)[0].status == 200


def test_its_backend_gives_tokens_to_its_own_page_only(call: Calling, product: Product) -> None:
    own = {"Origin": f"http://localhost:{call.port}"}
    answer, text = call("POST", "/widget-token", own)
    assert (answer.status, json.loads(text)) == (200, {"token": "smw_made"})
    assert answer.headers["Cache-Control"] == "no-store"
    [(_, body)] = product.asked
    assert own["Origin"] in body["origins"]

    answer, text = call("POST", "/widget-token", {"Origin": "https://elsewhere.example"})
    assert answer.status == 403
    assert "smw_" not in text
    assert call("GET", "/widget-token")[0].status == 404
    assert len(product.asked) == 1


def test_what_the_product_refuses_is_said(call: Calling, product: Product) -> None:
    product.refuses = True
    answer, text = call("POST", "/widget-token")
    assert answer.status == 502
    assert json.loads(text)["error"].endswith("503, The database is away.")
    answer, text = call("POST", "/app/use/storage")  # asks the stand-in what time it is
    assert answer.status == 502
    assert "does not answer" in json.loads(text)["error"]


def test_there_is_no_other_button(call: Calling) -> None:
    assert call("POST", "/app/use/everything")[0].status == 404
    assert call("POST", "/do/calls")[0].status == 404
    assert call("POST", "/calls")[0].status == 404
