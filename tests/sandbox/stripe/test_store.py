"""What was answered survives the stand-in's death; the clock's file follows the clock."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import stripe

from sandbox.stripe.store import Store
from sandbox.stripe.world import World
from tests.sandbox.stripe.calls import START, Caller, Clock


@contextlib.contextmanager
def standin(folder: Path, *more: str):
    """The stand-in as a process; gives it and its URL."""
    command = [sys.executable, "-m", "sandbox.stripe", "--port", "0"]
    command += ["--store", str(folder / "stripe.db"), *more]
    environment = os.environ | {"STRIPEMETER_CLOCK_FILE": str(folder / "clock.json")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            line = process.stdout.readline()
            yield process, line.split()[-1]
        finally:
            process.kill()


def test_a_killed_stand_in_has_lost_nothing_that_it_answered(tmp_path):
    answered: list[str] = []
    with standin(tmp_path, "--calm") as (process, url):
        client = stripe.StripeClient("sk_test_1", base_addresses={"api": url})
        meter = client.v1.billing.meters.create(
            {
                "display_name": "Calls",
                "event_name": "api_calls",
                "default_aggregation": {"formula": "sum"},
            }
        )

        def send() -> None:
            with contextlib.suppress(stripe.APIConnectionError):
                for number in range(100_000):
                    client.v1.billing.meter_events.create(
                        {
                            "event_name": "api_calls",
                            "identifier": f"e{number}",
                            "payload": {"value": "1", "stripe_customer_id": "cus_1"},
                        },
                        options={"idempotency_key": f"e{number}"},
                    )
                    answered.append(f"e{number}")

        thread = threading.Thread(target=send)
        thread.start()
        while len(answered) < 50:
            time.sleep(0.005)
        process.kill()
        process.wait()
        thread.join()
    world = World(calm=True, store=Store(tmp_path / "stripe.db"))
    call = Caller(world)
    assert call("GET", f"/v1/billing/meters/{meter.id}").status == 200
    kept = {each["identifier"] for each in world.partition().of("_meter_event").values()}
    assert set(answered) <= kept
    assert len(kept) - len(answered) in (0, 1)  # one may have been at work
    assert call.send("1", identifier=answered[-1]).status == 400
    world.close()


def test_everything_is_taken_up_again(tmp_path):
    clock, path = Clock(), tmp_path / "stripe.db"
    world = World(clock=clock, store=Store(path))
    world.settings.limits = False
    call = Caller(world)
    call.customer()
    meter = call.meter()["id"]
    call.send("3", key="k", identifier="a")
    world.settle()
    call.send("4")
    params = {"url": "http://127.0.0.1:9/", "enabled_events": ["*"]}
    call("POST", "/v1/webhook_endpoints", params)
    call("POST", f"/v1/billing/meters/{meter}", {"display_name": "New"})
    world.advance_to(START + 3600)
    world.revoke_key("sk_test_lost")
    world.close()

    again = World(clock=clock, store=Store(path))
    call = Caller(again)
    assert again.now() == START + 3600
    assert call.total(meter) == 3
    again.settle()
    assert call.total(meter) == 7
    assert call.send("3", key="k", identifier="a").headers["Idempotent-Replayed"] == "true"
    assert call("GET", f"/v1/billing/meters/{meter}").json["display_name"] == "New"
    assert Caller(again, "sk_test_lost")("GET", "/v1/events").status == 401
    assert len(again.partition().of("_delivery")) == 1
    again.close()


def test_the_clock_s_file_follows_the_clock(tmp_path):
    path = tmp_path / "clock.json"
    world = World(clock=Clock(), clock_file=path, store=Store(tmp_path / "stripe.db"))
    assert json.loads(path.read_text()) == {"offset_seconds": 0}
    world.advance_to(START + 60)
    assert json.loads(path.read_text()) == {"offset_seconds": 60}
    world.close()
    path.unlink()
    World(clock=Clock(), clock_file=path, store=Store(tmp_path / "stripe.db")).close()
    assert json.loads(path.read_text()) == {"offset_seconds": 60}
    assert [each.name for each in tmp_path.glob(".clock*")] == []


def test_the_clock_does_not_go_back():
    world = World(clock=Clock())
    with pytest.raises(ValueError, match="only goes forward"):
        world.advance_to(START - 1)
