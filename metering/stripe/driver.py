"""The one door to Stripe: the only `import stripe`.

Nothing of the library's is let out: values are ours (`answers`), and so are errors (`faults`).
The library's own retries are off, for it ignores Retry-After: questions are repeated here, a few
times; what changes anything is never repeated here, for only its row knows what became of it.
"""

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import urlsplit

import requests
import stripe
import urllib3.exceptions

from metering.stripe import faults
from metering.stripe.answers import Json
from metering.stripe.calls import Calls
from metering.stripe.faults import StripeFault
from metering.stripe.limits import Limiter
from metering.stripe.modes import Mode

__all__ = ["API_VERSION", "Driver", "Limiter", "StripeFault"]

API_VERSION = stripe.api_version
CONNECT_SECONDS = 5.0
# How often a question is repeated, and how long it may take altogether.
REPETITIONS = 3
PATIENCE_SECONDS = 20.0
BACKOFF_SECONDS = 0.5
# How long a call waits for our own limit.
LONGEST_QUEUE_SECONDS = 5.0

stripe.enable_telemetry = False
# It would log every address and, at DEBUG, every body.
logging.getLogger("stripe").setLevel(logging.WARNING)


class Driver(Calls):
    """Stripe in both modes.

    live_key, test_key: None: that mode cannot be called.
    base_url:           of a stand-in; None: Stripe.
    own_account:        the keys' own account: calls for it carry no `Stripe-Account`.
    timeout_seconds:    between two bytes of an answer; 5 s to connect.
    http_client:        instead of one of our own per thread; for tests.
    """

    def __init__(
        self,
        live_key: str | None,
        test_key: str | None,
        *,
        limiter: Limiter,
        base_url: str | None = None,
        own_account: str | None = None,
        timeout_seconds: float = 30.0,
        http_client: stripe.HTTPClient | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._keys: Mapping[Mode, str | None] = {"live": live_key, "test": test_key}
        self._base_url = base_url.rstrip("/") if base_url else None
        self._own_account = own_account
        self._limiter = limiter
        self._timeout = (min(CONNECT_SECONDS, timeout_seconds), timeout_seconds)
        self._http_client = http_client
        self._sleep = sleep
        self._clients = threading.local()

    def __repr__(self) -> str:
        modes = [mode for mode, key in self._keys.items() if key]
        return f"Driver(modes={modes}, base_url={self._base_url!r})"

    def has_key(self, mode: Mode) -> bool:
        return bool(self._keys[mode])

    def request(
        self,
        mode: Mode,
        account: str | None,
        method: Literal["get", "post"],
        path: str,
        params: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        repeatable: bool = False,
        urgent: bool = False,
    ) -> Json:
        key = self._key(mode)
        other = None if account == self._own_account else account
        options: dict[str, Any] = {}
        if idempotency_key is not None:
            options["idempotency_key"] = idempotency_key
        if other is not None:
            # The second version of the API names accounts in a header of another name.
            name = "stripe_context" if path.startswith("/v2/") else "stripe_account"
            options[name] = other
        started, slept = time.monotonic(), 0.0
        for repetition in range(REPETITIONS + 1):
            self._queue(mode, other, urgent=urgent)
            try:
                return self._once(mode, key, method, path, {**params, **options})
            except StripeFault as fault:
                if not repeatable or fault.kind != "retry" or repetition == REPETITIONS:
                    raise
                pause = _pause(repetition, fault.retry_after)
                if time.monotonic() - started + slept + pause > PATIENCE_SECONDS:
                    raise
                self._sleep(pause)
                slept += pause
        raise AssertionError("unreachable")

    def _once(
        self, mode: Mode, key: str, method: str, path: str, arguments: Mapping[str, Any]
    ) -> Json:
        try:
            response = self._client(mode, key).raw_request(method, path, **arguments)
        except stripe.APIConnectionError as error:
            raise _unanswered(error) from None
        except stripe.StripeError as error:
            raise _of_error(error) from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # The library stumbles over answers that are not of Stripe's shape.
            raise faults.unreadable(None) from error
        # The library reads numbers as floats.
        answer = json.loads(response.body, parse_float=Decimal)
        if not isinstance(answer, dict):
            raise faults.unreadable(response.code)
        _refuse_other_mode(mode, answer)
        return answer

    def _key(self, mode: Mode) -> str:
        key = self._keys[mode]
        if not key:
            name = f"STRIPE_{mode.upper()}_KEY"
            message = f"There is no {mode} key: set {name}. Nothing was sent."
            raise StripeFault("auth", message, sent=False, code="no_key")
        if not key.startswith((f"sk_{mode}_", f"rk_{mode}_")):
            message = f"The key for {mode} mode is not a {mode} key. Nothing was sent."
            raise StripeFault("auth", message, sent=False, code="wrong_key")
        return key

    def _queue(self, mode: Mode, account: str | None, *, urgent: bool) -> None:
        """Wait until our own limit lets the call through, but not for long."""
        queued = 0.0
        while (wait := self._limiter.acquire(mode, account, urgent=urgent)) > 0:
            if queued + wait > LONGEST_QUEUE_SECONDS:
                message = "Too many calls are waiting for Stripe's limit. Nothing was sent."
                raise StripeFault("retry", message, sent=False, code="own_limit", retry_after=wait)
            self._sleep(wait)
            queued += wait

    def _client(self, mode: Mode, key: str) -> stripe.StripeClient:
        """This thread's client, over one kept connection."""
        clients: dict[Mode, stripe.StripeClient] | None = getattr(self._clients, "by_mode", None)
        if clients is None:
            clients = self._clients.by_mode = {}
            self._clients.http = self._http_client or self._new_http_client()
        if mode not in clients:
            clients[mode] = stripe.StripeClient(
                key,
                base_addresses={"api": self._base_url} if self._base_url else None,
                stripe_version=API_VERSION,
                max_network_retries=0,
                http_client=self._clients.http,
            )
        return clients[mode]

    def _new_http_client(self) -> stripe.HTTPClient:
        session = requests.Session()
        # Else a netrc's entry would take our key's place.
        session.auth = _as_it_is
        # Stripe never redirects; whoever does is not Stripe.
        session.max_redirects = 0
        if self._base_url and is_loopback(self._base_url):
            # No proxy leads to a stand-in on this machine.
            session.trust_env = False
        return stripe.RequestsClient(timeout=self._timeout, session=session)


def is_loopback(url: str) -> bool:
    return (urlsplit(url).hostname or "") in ("127.0.0.1", "::1", "localhost")


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _pause(repetition: int, retry_after: float | None) -> float:
    """Seconds until a question is repeated: never less than Stripe asks for, never in step."""
    own = BACKOFF_SECONDS * 2.0**repetition * random.uniform(0.5, 1.0)
    if retry_after is None:
        return own
    return retry_after + own if retry_after > own else own


def _unanswered(error: stripe.APIConnectionError) -> StripeFault:
    """sent: False only where no connection ever stood."""
    cause = error.__cause__
    reason = getattr(cause.args[0], "reason", None) if cause and cause.args else None
    unconnected = isinstance(cause, requests.ConnectTimeout) or isinstance(
        reason, urllib3.exceptions.NewConnectionError
    )
    named = type(reason or cause or error).__name__
    if unconnected:
        return faults.unanswered(f"Stripe could not be reached ({named}).", sent=False)
    return faults.unanswered(f"Stripe did not answer ({named}).")


def _of_error(error: stripe.StripeError) -> StripeFault:
    body: object = error.json_body
    headers: Mapping[str, str] = error.headers or {}
    if isinstance(body, Mapping) and not isinstance(body, dict):
        # Of a body that is not JSON, the library hands the headers on in its place.
        headers = dict(body)
        body = None
    status = error.http_status
    if status is None or (200 <= status < 300):
        return faults.unreadable(status)
    lowered = {name.lower(): value for name, value in headers.items()}
    return faults.of_answer(status, lowered, body)


def _refuse_other_mode(mode: Mode, answer: Json) -> None:
    listed = answer.get("data")
    each = [answer, *listed] if isinstance(listed, list) else [answer]
    for obj in each:
        livemode = obj.get("livemode") if isinstance(obj, dict) else None
        if livemode is not None and livemode is not (mode == "live"):
            found = "live" if livemode else "test"
            message = f"This key is a {found} key, but it is set as the {mode} key."
            raise StripeFault("auth", message, answered=True, status=200, code="other_mode")
