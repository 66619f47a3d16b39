"""Events and their deliveries: signed, at least once, in no certain order."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import stripe

from sandbox.stripe import deliveries
from sandbox.stripe.core import ON_DELIVERY
from sandbox.stripe.server import serving
from sandbox.stripe.world import World
from tests.sandbox.stripe.calls import Caller, Clock

URL = "http://127.0.0.1:9/hook"


@pytest.fixture
def secret(call: Caller) -> str:
    params = {"url": URL, "enabled_events": ["billing.meter.created"]}
    said = call("POST", "/v1/webhook_endpoints", params).json
    shown = call("GET", f"/v1/webhook_endpoints/{said['id']}").json
    assert "secret" not in shown
    return str(said["secret"])


@pytest.fixture
def thin_secret(call: Caller) -> str:
    params = {
        "name": "errors",
        "enabled_events": ["v1.billing.meter.error_report_triggered"],
        "event_payload": "thin",
        "type": "webhook_endpoint",
        "webhook_endpoint": {"url": URL},
        "include": ["webhook_endpoint.signing_secret", "webhook_endpoint.url"],
    }
    said = call("POST", "/v2/core/event_destinations", params)
    assert said.status == 200, said.json
    assert said.json["webhook_endpoint"]["url"] == URL
    return str(said.json["webhook_endpoint"]["signing_secret"])


def test_a_snapshot_is_signed_with_the_endpoint_s_secret(call, world, secret):
    meter = call.meter()
    (made,) = deliveries.due(world)
    event = stripe.StripeClient("sk_test_1").construct_event(
        made.body, made.headers["Stripe-Signature"], secret, tolerance=10**9
    )
    assert (event.type, event.data.object.id) == ("billing.meter.created", meter["id"])
    (kept,) = call("GET", "/v1/events").json["data"]
    assert kept["pending_webhooks"] == 1
    deliveries.answered(world, made, 200)
    (kept,) = call("GET", "/v1/events").json["data"]
    assert kept["pending_webhooks"] == 0


def test_a_delivery_is_repeated_until_it_is_answered_well(call, world, clock, secret):
    call.meter()
    for status in (500, None, 302):
        (made,) = deliveries.due(world)
        deliveries.answered(world, made, status)
        assert deliveries.due(world) == []
        clock.advance(10)
    (made,) = deliveries.due(world)
    deliveries.answered(world, made, 204)
    clock.advance(10_000)
    assert deliveries.due(world) == []


def test_an_endpoint_that_never_answers_is_given_up(call, world, clock, secret):
    call.meter()
    made = 0
    for _ in range(20):
        made += len(deliveries.due(world))
        clock.advance(4000)
    assert made == len(deliveries.PAUSES)


def test_an_error_report_goes_out_thin_and_is_fetched_whole(call, world, thin_secret):
    call.meter()
    call.send("1", customer="cus_x", key="k")
    world.settle()
    (made,) = deliveries.due(world)
    client = stripe.StripeClient("sk_test_1")
    header = made.headers["Stripe-Signature"]
    note = client.parse_event_notification(made.body, header, thin_secret, tolerance=10**9)
    assert note.type == "v1.billing.meter.error_report_triggered"
    assert "data" not in json.loads(made.body)
    whole = call("GET", f"/v2/core/events/{note.id}").json
    named = whole["data"]["reason"]["error_types"][0]["sample_errors"][0]["request"]
    assert named == {"identifier": "k"}


def test_destinations_are_changed_tried_and_removed(call, world, thin_secret):
    path = "/v2/core/event_destinations"
    (made,) = call("GET", path).json["data"]
    one = f"{path}/{made['id']}"
    params = {"name": "new", "enabled_events": ["v2.core.event_destination.ping"]}
    assert call("POST", one, params).json["name"] == "new"
    assert call("GET", one).json["enabled_events"] == params["enabled_events"]
    ping = call("POST", f"{one}/ping").json
    (delivery,) = deliveries.due(world)
    assert json.loads(delivery.body)["id"] == ping["id"]
    assert call("POST", f"{one}/disable").json["status"] == "disabled"
    call("POST", f"{one}/ping")
    assert call("POST", f"{one}/enable").json["status"] == "enabled"
    assert call("DELETE", one).json["id"] == made["id"]
    assert call("GET", one).error["code"] == "not_found"


def test_a_deaf_endpoint_and_other_events_get_nothing(call, world, secret):
    (endpoint,) = call("GET", "/v1/webhook_endpoints").json["data"]
    meter = call.meter()["id"]
    deliveries.due(world)
    call("POST", f"/v1/billing/meters/{meter}/deactivate")
    call("POST", f"/v1/webhook_endpoints/{endpoint['id']}", {"disabled": True})
    call.meter("other")
    assert deliveries.due(world) == []
    assert call("DELETE", f"/v1/webhook_endpoints/{endpoint['id']}").json["deleted"] is True


def test_the_platform_hears_of_connected_accounts_where_it_asked_to(call, world, secret):
    world.connect("acct_c")
    params = {"url": URL + "/connect", "enabled_events": ["*"], "connect": True}
    call("POST", "/v1/webhook_endpoints", params)
    params = {"display_name": "A", "event_name": "a", "default_aggregation": {"formula": "sum"}}
    call("POST", "/v1/billing/meters", params, stripe_account="acct_c")
    (made,) = deliveries.due(world)
    assert made.url == URL + "/connect"
    assert json.loads(made.body)["account"] == "acct_c"


def test_deliveries_are_lost_doubled_and_reordered_on_demand(call, world, clock, secret):
    world.faults.plant("webhook_lose", match='"event_name":"a"')
    world.faults.plant("webhook_duplicate", match='"event_name":"b"')
    world.faults.plant("webhook_reorder", match='"event_name":"c"')
    for name in "abcd":
        call.meter(name)
    made = [json.loads(each.body)["data"]["object"]["event_name"] for each in deliveries.due(world)]
    assert made == ["b", "b", "d", "c"]


def test_work_can_wait_for_a_delivery(call, world, secret, monkeypatch):
    heard: list[str] = []
    note = [*ON_DELIVERY, lambda world, partition, event: heard.append(event["type"])]
    monkeypatch.setattr(deliveries, "ON_DELIVERY", note)
    meter = call.meter()["id"]
    assert heard == []
    deliveries.answered(world, deliveries.due(world)[0], 200)
    assert heard == ["billing.meter.created"]
    call("POST", f"/v1/billing/meters/{meter}/deactivate")  # nobody listens to it
    assert heard[1:] == ["billing.meter.deactivated"]


def test_events_are_listed_by_type_and_time(call, world, clock: Clock):
    first = call.meter("a")
    clock.advance(60)
    call("POST", f"/v1/billing/meters/{first['id']}/deactivate")
    only = call("GET", "/v1/events", {"types": ["billing.meter.created"]}).json["data"]
    assert [each["type"] for each in only] == ["billing.meter.created"]
    since = call("GET", "/v1/events", {"created": {"gt": first["created"]}}).json["data"]
    assert [each["type"] for each in since] == ["billing.meter.deactivated"]
    assert call("GET", f"/v1/events/{since[0]['id']}").json["id"] == since[0]["id"]
    assert since[0]["request"]["id"].startswith("req_")


class _Hook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        heard = self.server.heard  # type: ignore[attr-defined]
        heard.append((self.headers["Stripe-Signature"], body))
        self.send_response(500 if len(heard) == 1 else 200)
        self.end_headers()
        self.server.done.set()  # type: ignore[attr-defined]

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Hook)
    server.heard, server.done = [], threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_served_world_delivers_and_repeats_by_itself(hook):
    world = World(calm=True)
    call = Caller(world)
    with serving(world):
        url = f"http://127.0.0.1:{hook.server_address[1]}/hook?x=1"
        call("POST", "/v1/webhook_endpoints", {"url": url, "enabled_events": ["*"]})
        call.meter()
        deadline = threading.Event()
        for _ in range(100):
            if len(hook.heard) >= 2:
                break
            deadline.wait(0.05)
    assert len({body for _, body in hook.heard}) == 1
    assert len(hook.heard) == 2
