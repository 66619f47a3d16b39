"""The configuration names everything that is wrong with it, at once, and repeats no secret."""

import pytest

from webapp import config
from webapp.config import Config

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
        "LATE_EVENT_WINDOW_HOURS": "8761",
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


def test_stripe_settings_are_read() -> None:
    plain = config.load(GOOD)
    assert (plain.stripe_limit_live, plain.stripe_limit_test) == (1000, 25)
    assert plain.stripe_api_base is plain.stripe_account is plain.stripe_webhook_secret_live is None
    loaded = config.load(
        {
            **GOOD,
            "STRIPE_TEST_KEY": "rk_test_abc",
            "STRIPE_ACCOUNT": "acct_1",
            "STRIPE_WEBHOOK_SECRET_TEST": "whsec_a, whsec_b",
            "STRIPE_LIMIT_TEST": "100",
            "STRIPE_API_BASE": "http://127.0.0.1:12111/",
        }
    )
    assert loaded.stripe_account == "acct_1"
    assert loaded.stripe_webhook_secret_test == "whsec_a,whsec_b"
    assert loaded.stripe_limit_test == 100
    assert loaded.stripe_api_base == "http://127.0.0.1:12111"


def test_wrong_stripe_settings_are_named_and_not_repeated() -> None:
    broken = {
        "STRIPE_ACCOUNT": "planted",
        "STRIPE_WEBHOOK_SECRET_LIVE": "whsec_a,sk_live_planted",
        "STRIPE_LIMIT_LIVE": "0",
        "STRIPE_LIMIT_TEST": "a few",
        "STRIPE_API_BASE": "https://planted.example",
        "STRIPEMETER_DEMO_URL": "https://planted.example",
    }
    with pytest.raises(config.ConfigError) as raised:
        config.load({**GOOD, **broken})
    assert len(raised.value.problems) == len(broken)
    for name in broken:
        assert name in str(raised.value)
    assert "planted" not in str(raised.value)


@pytest.mark.parametrize(
    "base",
    [
        "https://api.stripe.com.evil.example",
        "https://127.0.0.1@evil.example",
        "https://127.0.0.1.evil.example",
        "http://api.stripe.com",
        "http://10.0.0.1:12111",
        "ftp://127.0.0.1",
        "127.0.0.1:12111",
        "http://127.0.0.1:many",
        "http://127.0.0.1:12111/elsewhere",
        "http://u:p@127.0.0.1:12111",
        "http://127.0.0.1:12111?x",
        "http://[::1",
    ],
)
def test_keys_go_to_stripe_or_nowhere_off_this_machine(base: str) -> None:
    with pytest.raises(config.ConfigError, match="STRIPE_API_BASE must be"):
        config.load({**GOOD, "STRIPE_API_BASE": base})


@pytest.mark.parametrize("base", ["http://[::1]:12111", "http://localhost:1", "https://127.0.0.1"])
def test_a_stand_in_is_never_shown_a_live_key(base: str) -> None:
    assert config.load({**GOOD, "STRIPE_API_BASE": base}).stripe_api_base == base
    with pytest.raises(config.ConfigError, match="STRIPE_LIVE_KEY must be unset") as raised:
        config.load({**GOOD, "STRIPE_API_BASE": base, "STRIPE_LIVE_KEY": "sk_live_planted"})
    assert "planted" not in str(raised.value)


def test_stripe_itself_may_be_named_beside_a_live_key() -> None:
    named = {"STRIPE_API_BASE": "https://api.stripe.com/", "STRIPE_LIVE_KEY": "sk_live_a"}
    assert config.load({**GOOD, **named}).stripe_api_base is None


def test_no_secret_shows_in_the_configurations_repr() -> None:
    loaded = Config(
        database_url="postgresql+psycopg://u:planted@h/n",
        redis_url="redis://:planted@h",
        metrics_token="planted",
        stripe_live_key="sk_live_planted",
        stripe_test_key="sk_test_planted",
        stripe_webhook_secret_live="whsec_planted",
        stripe_webhook_secret_test="whsec_planted",
    )
    assert "planted" not in repr(loaded)


def test_how_late_is_late_is_48_hours_or_as_told() -> None:
    assert config.load(GOOD).lateness_seconds == 48 * 3600
    for hours in (0, 24, 8760):
        told = config.load({**GOOD, "LATE_EVENT_WINDOW_HOURS": str(hours)})
        assert told.lateness_seconds == hours * 3600


def test_the_secret_of_statements_is_32_bytes_in_base64_or_hex() -> None:
    assert config.load(GOOD).statement_signing_key is None
    for told in ("q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=", "ab" * 32):
        loaded = config.load({**GOOD, "STATEMENT_SIGNING_KEY": told})
        assert loaded.statement_signing_key == b"\xab" * 32
        assert "\\xab" not in repr(loaded)
    for wrong in ("planted", "cGxhbnRlZA==", "zz" * 32):
        with pytest.raises(config.ConfigError, match="STATEMENT_SIGNING_KEY") as raised:
            config.load({**GOOD, "STATEMENT_SIGNING_KEY": wrong})
        assert wrong not in str(raised.value)
