"""Stripe's own library against a served world, and the server's own manners."""

import http.client
import json
import threading
import time
from decimal import Decimal
from urllib.parse import urlencode, urlsplit

import pytest
import stripe

from sandbox.stripe.server import serving
from sandbox.stripe.world import World
from tests.sandbox.stripe.calls import Caller


def _meter(client):
    return client.v1.billing.meters.create(
        {
            "display_name": "Calls",
            "event_name": "api_calls",
            "default_aggregation": {"formula": "sum"},
            "customer_mapping": {"event_payload_key": "stripe_customer_id", "type": "by_id"},
            "value_settings": {"event_payload_key": "value"},
        }
    )


def _send(client, value, identifier, **options):
    return client.v1.billing.meter_events.create(
        {
            "event_name": "api_calls",
            "payload": {"value": value, "stripe_customer_id": "cus_1"},
            "identifier": identifier,
        },
        options=options,
    )


def _total(client, meter):
    start = int(time.time()) // 60 * 60 - 3600
    span = {"customer": "cus_1", "start_time": start, "end_time": start + 7200}
    return client.v1.billing.meters.event_summaries.list(meter.id, span).data[0].aggregated_value


def test_meters_events_adjustments_and_summaries(served, library):
    world, _ = served
    Caller(world).customer()
    client = library()
    meter = _meter(client)
    for number in range(12):
        sent = _send(client, "1.5", f"e{number}", idempotency_key=f"e{number}")
        assert sent.identifier == f"e{number}"
    assert _total(client, meter) == 18.0
    client.v1.billing.meter_event_adjustments.create(
        {"event_name": "api_calls", "type": "cancel", "cancel": {"identifier": "e0"}}
    )
    assert _total(client, meter) == 16.5
    assert client.v1.billing.meters.retrieve(meter.id).event_name == "api_calls"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        _send(client, "1.5", "e1")
    assert refused.value.user_message == "An event already exists with identifier e1."
    assert client.v1.billing.meters.deactivate(meter.id).status == "inactive"


def test_the_second_version_and_its_stream(served, library):
    world, url = served
    Caller(world).customer()
    client = library()
    meter = _meter(client)
    event = {
        "event_name": "api_calls",
        "payload": {"value": "2", "stripe_customer_id": "cus_1"},
    }
    client.v2.billing.meter_events.create(event)
    session = client.v2.billing.meter_event_session.create()
    addresses = {"api": url, "meter_events": url}
    stream = stripe.StripeClient(session.authentication_token, base_addresses=addresses)
    stream.v2.billing.meter_event_stream.create({"events": [event, event]})
    assert _total(client, meter) == 6.0


def test_an_error_report_is_fetched_with_its_samples(served, library):
    client = library()
    meter = _meter(client)
    _send(client, "1", "e", idempotency_key="e")
    served[0].tick()
    (found,) = client.v2.core.events.list().data
    event = client.v2.core.events.retrieve(found.id)
    assert event.related_object.id == meter.id
    sample = event.data.reason.error_types[0].sample_errors[0]
    assert sample.request.identifier == "e"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"kind": "refuse_429"}, stripe.RateLimitError),
        ({"kind": "error_500_before"}, stripe.APIError),
        ({"kind": "lock_timeout"}, stripe.APIError),
        ({"kind": "drop_response_after_commit"}, stripe.APIConnectionError),
        ({"kind": "down"}, stripe.APIError),
    ],
)
def test_faults_reach_the_library_as_its_errors(served, library, fault, error):
    world, _ = served
    world.faults.plant(**fault)
    with pytest.raises(error):
        _meter(library())


def test_a_dropped_answer_is_repeated_by_the_library_and_counts_once(served, library):
    world, _ = served
    Caller(world).customer()
    client = library(max_network_retries=2)
    meter = _meter(client)
    world.faults.plant("drop_response_after_commit", match="/v1/billing/meter_events")
    _send(client, "3", "a")
    assert _total(client, meter) == 3.0


def test_bad_keys_and_foreign_accounts_are_told_apart(served, library):
    with pytest.raises(stripe.AuthenticationError):
        _meter(library("sk_nonsense"))
    with pytest.raises(stripe.PermissionError):
        _meter(library(stripe_account="acct_foreign"))


def test_pages_are_walked_by_the_library(served, library):
    client = library()
    for number in range(25):
        client.v1.billing.meters.create(
            {
                "display_name": str(number),
                "event_name": f"e{number}",
                "default_aggregation": {"formula": "sum"},
            }
        )
    listed = client.v1.billing.meters.list({"limit": 7})
    names = [each.display_name for each in listed.auto_paging_iter()]
    assert names == [str(number) for number in reversed(range(25))]


def _asked(url, method, path, body=None, **headers):
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, given)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer, text


def test_the_lag_passes_by_itself(library):
    world = World(calm=True)
    world.settings.lag_seconds = (0.4, 0.4)
    call = Caller(world)
    call.customer()
    with serving(world) as url:
        client = stripe.StripeClient("sk_test_1", base_addresses={"api": url})
        meter = _meter(client)
        _send(client, "3", "a")
        assert _total(client, meter) == 0.0
        time.sleep(0.6)
        assert _total(client, meter) == 3.0


def test_the_controls_move_the_clock_plant_faults_and_tell_the_state(served):
    world, url = served
    call = Caller(world)
    call.customer()
    call.meter()
    call.send("2.5")
    said = json.loads(_asked(url, "GET", "/_sandbox/state")[1])
    (partition,) = (each for each in said["partitions"] if each["streams"])
    (stream,) = partition["streams"]
    assert (stream["accepted"], stream["events"]) == ("2.5", 1)
    before = world.now()
    body = json.dumps({"advance_seconds": 86400})
    said = json.loads(_asked(url, "POST", "/_sandbox/clock", body)[1])
    assert said["offset_seconds"] == 86400
    assert world.now() >= before + 86400
    body = json.dumps({"kind": "down", "times": 1, "match": "cus_1"})
    assert _asked(url, "POST", "/_sandbox/faults", body)[0].status == 200
    assert call.send("1").status == 503
    body = json.dumps({"lag_seconds": [1, 2], "limits": True})
    said = json.loads(_asked(url, "POST", "/_sandbox/settings", body)[1])
    assert (said["lag_seconds"], said["limits"]) == ([1.0, 2.0], True)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("clock", {"advance_seconds": -1}),
        ("clock", {"to": "tomorrow"}),
        ("clock", {}),
        ("clock", {"advance_seconds": 10**12}),
        ("faults", {"kind": "flood"}),
        ("faults", {"kind": "down", "times": "often"}),
        ("settings", {"lag_seconds": -1}),
        ("settings", {"colour": "red"}),
        ("settings", []),
        ("nothing", {}),
    ],
)
def test_a_wrong_control_is_refused_in_words(served, path, body):
    answer, text = _asked(served[1], "POST", f"/_sandbox/{path}", json.dumps(body))
    assert answer.status in (400, 404)
    assert json.loads(text)["error"]


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}]
)
def test_the_controls_are_not_for_other_sites(served, headers):
    for method, path in (("GET", "/"), ("POST", "/_sandbox/clock")):
        body = json.dumps({"advance_seconds": 1})
        assert _asked(served[1], method, path, body, **headers)[0].status == 403
    assert served[0].offset_seconds == 0


def test_600_meter_events_a_second_over_kept_connections(served):
    world, url = served
    world.observers.clear()
    call = Caller(world)
    call.meter()
    count, each = 4, 300
    for number in range(count):
        call.customer(f"cus_{number}")

    def send(number: int) -> None:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        for at in range(each):
            form = {
                "event_name": "api_calls",
                "identifier": f"{number}-{at}",
                "payload[value]": "1",
                "payload[stripe_customer_id]": f"cus_{number}",
            }
            headers = {"Authorization": "Bearer sk_test_1", "Idempotency-Key": f"{number}-{at}"}
            connection.request("POST", "/v1/billing/meter_events", urlencode(form), headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
        connection.close()

    threads = [threading.Thread(target=send, args=(number,)) for number in range(count)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = count * each / (time.perf_counter() - began)
    said = json.loads(_asked(url, "GET", "/_sandbox/state")[1])
    totals = [Decimal(s["accepted"]) for p in said["partitions"] for s in p["streams"]]
    assert totals == [each] * count
    assert rate > 600, f"{rate:.0f} a second"
