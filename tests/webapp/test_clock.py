"""One clock for the product and the stand-in: followed in the sandbox, refused anywhere else."""

import json
import timeit
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from webapp import clock, config

SERVERS = {"DATABASE_URL": "postgres://u@h/n", "REDIS_URL": "redis://h"}
NEAR = timedelta(seconds=5)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "clock.json"
    clock.follow(path)
    yield path
    clock.follow(None)


def move(path: Path, seconds: object) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps({"offset_seconds": seconds}))
    beside.replace(path)


def ahead() -> timedelta:
    return clock.wall() - clock.machine()


def test_the_clock_follows_the_file_as_it_changes(file: Path) -> None:
    assert abs(ahead()) < NEAR  # no file yet
    for days in (1, 31, 31 + 365):
        move(file, days * 86_400)
        assert abs(ahead() - timedelta(days=days)) < NEAR
    file.unlink()
    assert abs(ahead()) < NEAR


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"offset_seconds": "3"}', "\xff"])
def test_a_file_that_says_nothing_moves_nothing(file: Path, text: str) -> None:
    file.write_bytes(text.encode("latin-1"))
    assert abs(ahead()) < NEAR


@pytest.mark.parametrize("seconds", [-60, True, 1.5, None, 10**30, {"a": 1}])
def test_an_offset_that_cannot_be_moves_nothing(file: Path, seconds: object) -> None:
    move(file, seconds)
    assert abs(ahead()) < NEAR


def test_a_look_costs_next_to_nothing(file: Path) -> None:
    move(file, 60)
    assert min(timeit.repeat(clock.wall, number=1000, repeat=5)) / 1000 < 50e-6


def test_outside_the_sandbox_a_clock_file_is_refused() -> None:
    with pytest.raises(config.ConfigError, match="the sandbox's clock, and this is none"):
        config.load({**SERVERS, "STRIPEMETER_CLOCK_FILE": "/tmp/clock.json"})


def test_beside_a_live_key_a_clock_file_is_refused() -> None:
    with pytest.raises(config.ConfigError, match="STRIPE_LIVE_KEY must be unset") as raised:
        config.load(
            {
                **SERVERS,
                "STRIPEMETER_SANDBOX": "1",
                "STRIPEMETER_CLOCK_FILE": "/tmp/clock.json",
                "STRIPE_LIVE_KEY": "sk_live_planted",
            }
        )
    assert "planted" not in str(raised.value)


def test_the_sandbox_takes_it() -> None:
    given = {**SERVERS, "STRIPEMETER_SANDBOX": "1", "STRIPEMETER_CLOCK_FILE": "/tmp/clock.json"}
    assert config.load(given).clock_file == Path("/tmp/clock.json")
    assert config.load(SERVERS).clock_file is None
