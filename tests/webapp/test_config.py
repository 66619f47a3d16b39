"""The configuration names everything that is wrong with it, at once, and repeats no secret."""

import pytest

from webapp import config

GOOD = {
    "DATABASE_URL": "postgres://u:p@db.example:5432/meter",
    "REDIS_URL": "rediss://:secret@redis.example:6380",
}


def test_everything_wrong_is_named_at_once() -> None:
    broken = {
        "DATABASE_URL": "mysql://u@h/n",
        "PORT": "many",
        "WEB_CONCURRENCY": "0",
        "STRIPEMETER_SANDBOX": "maybe",
        "STRIPE_TEST_KEY": "sk_live_planted",
        "LOG_LEVEL": "loud",
    }
    with pytest.raises(config.ConfigError) as raised:
        config.load(broken)
    text = str(raised.value)
    for name in (*broken, "REDIS_URL"):
        assert name in text
    assert len(raised.value.problems) == len(broken) + 1
    assert "planted" not in text


@pytest.mark.parametrize("url", ["postgresql://u@h:port/n", "postgresql://[::1/n"])
def test_an_address_that_is_none_is_named(url: str) -> None:
    with pytest.raises(config.ConfigError, match="DATABASE_URL cannot be read"):
        config.load({**GOOD, "DATABASE_URL": url})


def test_a_platforms_spelling_is_understood() -> None:
    loaded = config.load({**GOOD, "REDIS_TLS_VERIFY": "0", "PORT": "8080"})
    assert loaded.database_url == "postgresql+psycopg://u:p@db.example:5432/meter"
    assert (loaded.redis_tls_verify, loaded.port, loaded.sandbox) == (False, 8080, False)


def test_a_command_that_needs_no_redis_asks_for_none() -> None:
    only_database = {"DATABASE_URL": GOOD["DATABASE_URL"]}
    assert config.load(only_database, needs_redis=False).redis_url == ""
    with pytest.raises(config.ConfigError, match="REDIS_URL is missing"):
        config.load(only_database)
