"""Where the stand-in for Stripe runs beside a sandbox, and when there is none."""

import socket
from pathlib import Path

import pytest

from sandbox.banner import banner
from sandbox.settings import Settings
from sandbox.standin import StandIn, why_none
from webapp import config

SERVERS = {"DATABASE_URL": "postgres://u@h/n", "REDIS_URL": "redis://h"}


def settings(home: Path, port: int) -> Settings:
    return Settings.read({"STRIPEMETER_HOME": str(home), "PORT": str(port)})


def test_it_takes_the_next_free_ports(home: Path, port: int) -> None:
    first = StandIn.beside(settings(home, port))
    assert port < first.port < first.demo_port
    with socket.socket() as other:
        other.bind(("127.0.0.1", first.port))
        other.listen()
        second = StandIn.beside(settings(home, port))
    assert second.port > first.port
    assert second.demo_port > second.port


def test_its_webhooks_are_signed_with_one_secret_for_the_life_of_a_home(
    home: Path, port: int
) -> None:
    first, second = (StandIn.beside(settings(home, port)) for _ in range(2))
    assert first.webhook_secret == second.webhook_secret
    assert (home / "stripe" / "webhook-secret").stat().st_mode & 0o077 == 0


def test_what_it_tells_our_programs_is_a_configuration(home: Path, port: int) -> None:
    stand_in = StandIn.beside(settings(home, port))
    loaded = config.load({**SERVERS, "STRIPEMETER_SANDBOX": "1", **stand_in.environment})
    assert loaded.stripe_api_base == f"http://127.0.0.1:{stand_in.port}"
    assert loaded.clock_file == home / "run" / "clock.json"
    assert loaded.demo_url == f"http://localhost:{stand_in.demo_port}"
    assert loaded.stripe_live_key is None


@pytest.mark.parametrize("name", ["STRIPE_TEST_KEY", "STRIPE_API_BASE", "STRIPE_LIVE_KEY"])
def test_a_user_with_a_stripe_of_his_own_gets_no_stand_in(name: str) -> None:
    said = why_none({name: "planted"})
    assert said is not None
    assert said.startswith(f"{name} is set")
    assert "planted" not in said


def test_an_empty_setting_is_none() -> None:
    assert why_none({"STRIPE_TEST_KEY": "", "PATH": "/bin"}) is None


def test_the_banner_names_its_pages(home: Path, port: int) -> None:
    stand_in = StandIn.beside(settings(home, port))
    with_it, without = banner(port, None, home, stand_in), banner(port, None, home)
    for number in (stand_in.port, stand_in.demo_port):
        assert f"http://localhost:{number}/" in with_it
    assert f"http://localhost:{stand_in.demo_port}/app" in with_it
    assert "Demo" not in without
    assert "Customer" not in without
