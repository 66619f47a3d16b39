"""Webhooks signed by hand; whose they are is judged in time by `now`."""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.stripe.signature import AHEAD, OLDEST, SignatureError, mode_of

NOW = datetime(2031, 3, 1, 12, tzinfo=UTC)
SECRET = "whsec_planted"
SECRETS = {"live": ("whsec_planted_live",), "test": ("whsec_planted_older", SECRET)}
BODY = b'{"id": "evt_1",\n "object": "event"}'
SECOND = timedelta(seconds=1)


def signed(body: bytes, *, at: datetime = NOW, secret: str = SECRET) -> str:
    stamp = int(at.timestamp())
    mac = hmac.new(secret.encode(), b"%d." % stamp + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={mac},v0=ignored"


def refusal(body: bytes, header: str | None) -> str:
    with pytest.raises(SignatureError) as raised:
        mode_of(body, header, SECRETS, now=NOW)
    assert "planted" not in f"{raised.value!r}"
    return str(raised.value)


def test_the_secret_tells_the_mode() -> None:
    for mode, secrets in SECRETS.items():
        for secret in secrets:
            assert mode_of(BODY, signed(BODY, secret=secret), SECRETS, now=NOW) == mode


def test_one_of_several_signatures_is_enough() -> None:
    stamp, mine, _ = signed(BODY).split(",")
    assert mode_of(BODY, f"{stamp},v1={'0' * 64}, {mine}", SECRETS, now=NOW) == "test"


@pytest.mark.parametrize(
    ("age", "told"),
    [
        (OLDEST, None),
        (OLDEST + SECOND, "301 s old"),
        (-AHEAD, None),
        (-AHEAD - SECOND, "of the future, 61 s ahead"),
        (timedelta(days=-11_000), "of the future"),
    ],
)
def test_time_is_judged_by_now_and_not_by_the_wall(age: timedelta, told: str | None) -> None:
    header = signed(BODY, at=NOW - age)
    if told is None:
        assert mode_of(BODY, header, SECRETS, now=NOW) == "test"
    else:
        assert told in refusal(BODY, header)


def test_what_is_forged_is_refused() -> None:
    good = signed(BODY)
    stamp = f"t={int(NOW.timestamp())}"
    assert "by no webhook secret" in refusal(BODY + b" ", good)
    assert "by no webhook secret" in refusal(BODY, good.replace(stamp, f"{stamp[:-1]}9"))
    assert "not of the form" in refusal(BODY, f"t={int(NOW.timestamp()) - 10**6},{good}")
    assert "by no webhook secret" in refusal(BODY, signed(BODY, secret="whsec_third"))
    assert "by no webhook secret" in refusal(BODY, signed(BODY, secret=""))


def test_a_secret_that_is_empty_signs_nothing() -> None:
    with pytest.raises(SignatureError):
        mode_of(BODY, signed(BODY, secret=""), {"test": ("",)}, now=NOW)


NO_HEADERS = (
    None,
    "",
    "t",
    "t=",
    "t=x,v1=y",
    "v1=y",
    "t=1",
    "t=1,v1",
    "v1=é,t=1",
    "t=1,v1=" + "a" * 9999,
    "t=" + "9" * 4000 + ",v1=00",
    "t=1;v1=00",
    "=,=,=",
    "t=-1,v1=00",
)


@pytest.mark.parametrize("header", NO_HEADERS)
def test_a_header_that_is_none_is_refused(header: str | None) -> None:
    assert refusal(BODY, header)


@given(st.text(max_size=80), st.binary(max_size=80))
def test_nothing_unsigned_gets_through_and_nothing_breaks(header: str, body: bytes) -> None:
    assert refusal(body, header)
