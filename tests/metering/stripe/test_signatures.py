"""Webhooks: signed by us here by hand, verified by the library, judged in time by `now`."""

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.stripe.answers import Event, ThinEvent
from metering.stripe.driver import AHEAD_SECONDS, TOLERANCE_SECONDS, Driver, StripeFault

NOW = datetime(2031, 3, 1, 12, tzinfo=UTC)
SECRET = "whsec_planted"
SNAPSHOT = {
    "id": "evt_1",
    "object": "event",
    "type": "invoice.created",
    "created": 1,
    "livemode": False,
    "account": "acct_other",
    "data": {"object": {"id": "in_1"}, "previous_attributes": {"status": "draft"}},
}
THIN = {
    "id": "evt_2",
    "object": "v2.core.event",
    "type": "v1.billing.meter.no_meter_found",
    "created": "2031-03-01T11:59:59.123Z",
    "livemode": True,
    "context": "acct_other",
}


def signed(payload: bytes, *, at: datetime = NOW, secret: str = SECRET) -> str:
    stamp = int(at.timestamp())
    mac = hmac.new(secret.encode(), b"%d." % stamp + payload, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={mac},v0=ignored"


def body(obj: Any) -> bytes:
    return json.dumps(obj, indent=2).encode()


def refusal(payload: bytes, header: str | None, secret: str = SECRET) -> str:
    with pytest.raises(StripeFault) as raised:
        Driver.received(payload, header, secret, now=NOW)
    fault = raised.value
    assert (fault.kind, fault.sent) == ("rejected", False)
    assert "planted" not in f"{fault!r}"
    return str(fault.code)


def test_a_snapshot_is_read() -> None:
    payload = body(SNAPSHOT)
    event = Driver.construct_event(payload, signed(payload), SECRET, now=NOW)
    assert event == Driver.received(payload, signed(payload), SECRET, now=NOW)
    assert (event.id, event.mode, event.account) == ("evt_1", "test", "acct_other")
    assert (event.object["id"], event.previous["status"]) == ("in_1", "draft")


def test_a_thin_event_is_read() -> None:
    payload = body(THIN)
    event = Driver.parse_thin_event(payload, signed(payload), SECRET, now=NOW)
    assert event == Driver.received(payload, signed(payload), SECRET, now=NOW)
    assert (event.id, event.mode, event.context) == ("evt_2", "live", "acct_other")
    assert (event.related_id, event.created_at.year) == (None, 2031)


def test_neither_is_taken_for_the_other() -> None:
    snapshot, thin = body(SNAPSHOT), body(THIN)
    with pytest.raises(StripeFault, match="not an 'event' object"):
        Driver.construct_event(thin, signed(thin), SECRET, now=NOW)
    with pytest.raises(StripeFault, match=r"not an 'v2\.core\.event' object"):
        Driver.parse_thin_event(snapshot, signed(snapshot), SECRET, now=NOW)


def test_one_of_several_secrets_is_enough() -> None:
    payload = body(SNAPSHOT)
    secrets = f"whsec_other, {SECRET}"
    assert isinstance(Driver.received(payload, signed(payload), secrets, now=NOW), Event)
    assert refusal(payload, signed(payload, secret="whsec_third"), secrets) == "bad_signature"


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (-TOLERANCE_SECONDS, None),
        (-TOLERANCE_SECONDS - 1, "too_old"),
        (AHEAD_SECONDS, None),
        (AHEAD_SECONDS + 1, "in_future"),
        (10**9, "in_future"),
    ],
)
def test_time_is_judged_by_now_and_not_by_the_wall(seconds: int, code: str | None) -> None:
    payload = body(THIN)
    header = signed(payload, at=NOW + timedelta(seconds=seconds))
    if code is None:
        assert isinstance(Driver.received(payload, header, SECRET, now=NOW), ThinEvent)
    else:
        assert refusal(payload, header) == code


def test_what_is_forged_is_refused() -> None:
    payload = body(SNAPSHOT)
    good = signed(payload)
    assert refusal(payload + b" ", good) == "bad_signature"
    assert refusal(payload, good.replace("t=1", "t=2")) == "bad_signature"
    # Only the first time counts, and it is the one that is signed.
    assert refusal(payload, f"t={int(NOW.timestamp()) - 10**6},{good}") == "bad_signature"
    for secret in ("", " ", ",", "whsec_"):
        assert refusal(payload, good, secret) == "bad_signature"


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
NO_EVENTS = (
    b"",
    b"{",
    b"[]",
    b"null",
    b"{}",
    body({**SNAPSHOT, "object": []}),
    body({**SNAPSHOT, "data": None}),
    body({**SNAPSHOT, "created": None}),
    body({**SNAPSHOT, "created": 10**18}),
    body({**THIN, "created": "yesterday"}),
)


@pytest.mark.parametrize("header", NO_HEADERS)
def test_a_header_that_is_none_is_refused(header: str | None) -> None:
    assert refusal(body(SNAPSHOT), header) == "bad_signature"


@pytest.mark.parametrize("payload", NO_EVENTS)
def test_a_body_that_is_no_event_is_refused_though_signed(payload: bytes) -> None:
    assert refusal(payload, signed(payload)) == "malformed"


@given(st.text(max_size=80), st.binary(max_size=80))
def test_nothing_unsigned_gets_through_and_nothing_breaks(header: str, payload: bytes) -> None:
    assert refusal(payload, header) == "bad_signature"
