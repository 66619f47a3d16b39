"""The way of a request: let in, limited, remembered, done, answered - or, by a fault, not."""

import secrets
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from sandbox.stripe import faults, http, idempotency, keys, meter_events, surface
from sandbox.stripe.core import Call, Json, Partition, StripeError
from sandbox.stripe.http import Answer, NoAnswer
from sandbox.stripe.limits import refusal

VERSION = "2026-05-27.dahlia"
_STREAM = "/v2/billing/meter_event_stream"
_SHIELDED = StripeError(500, "An unknown error occurred", type="api_error")


@dataclass(frozen=True)
class Request:
    """A request that was let in. line: what faults are matched with, empty while there is none."""

    id: str
    method: str
    path: str
    headers: Mapping[str, str]
    params: Json
    partition: Partition
    key: str | None
    print: str
    line: str

    @property
    def v2(self) -> bool:
        return self.path.startswith("/v2/")


class Desk:
    def __init__(self, world: Any) -> None:
        self._world = world
        self._table = surface.Table()
        self._busy: set[tuple[Any, ...]] = set()

    def handle(self, method: str, target: str, given: Mapping[str, str], body: bytes) -> Answer:
        id = f"req_{secrets.token_hex(7)}"
        headers = {name.lower(): value for name, value in given.items()}
        path, query = http.split(target)
        try:
            request = self._admit(id, method, path, query, headers, body)
            return self._serve(request)
        except StripeError as error:
            return _told(error, id, headers, v2=path.startswith("/v2/"))

    def _admit(
        self, id: str, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes
    ) -> Request:
        """Read a request and find out for whom it is."""
        world = self._world
        with world.lock:
            account, livemode, connect = self._who(headers, path)
            params = http.params(path, query, headers, body)
            key = headers.get("idempotency-key") if method != "GET" else None
            line = ""
            if world.faults:
                line = faults.line_of(method, path, account, livemode, params)
                _fail_at_the_door(world.faults, line)
            if world.settings.limits:
                world.limits.take(account, livemode, path, connect=connect)
            if method == "GET":
                world.limits.reads[account, livemode] += 1
            print = idempotency.fingerprint(method, path, query, body) if key else ""
            partition = world.partition(account, livemode)
            return Request(id, method, path, headers, params, partition, key, print, line)

    def _who(self, headers: Mapping[str, str], path: str) -> tuple[str, bool, bool]:
        """The account and mode that a request acts on, and whether it is a connected one."""
        world, given = self._world, http.bearer(headers)
        if path == _STREAM:
            account, livemode = world.meters.session_owner(given)
            return account, livemode, False
        account, livemode = world.keys.owner(given)
        other = headers.get("stripe-account") or headers.get("stripe-context")
        if not other or other == account:
            return account, livemode, False
        if account != world.account or other not in world.connected:
            raise keys.foreign(given or "", other)
        return other, livemode, True

    def _serve(self, request: Request) -> Answer:
        world, claims = self._world, _claims(request)
        with world.lock:
            world.tick_if_due()
            stored = self._replayed(request)
            if stored is not None:
                return stored
            self._claim(claims)
        try:
            self._wait(request)
            with world.lock:
                return self._work(request)
        finally:
            with world.lock:
                self._busy.difference_update(claims)

    def _replayed(self, request: Request) -> Answer | None:
        if request.key is None:
            return None
        return idempotency.replay(
            request.partition, request.key, request.print, v2=request.v2, now=self._world.now()
        )

    def _claim(self, claims: list[tuple[Any, ...]]) -> None:
        for each in claims:
            if each in self._busy:
                raise idempotency.in_use() if each[2] == "key" else meter_events.lock_timeout()
        self._busy.update(claims)

    def _wait(self, request: Request) -> None:
        world, seconds = self._world, self._world.settings.latency_seconds
        slow = world.faults.take("slow", request.line)
        if slow is not None:
            seconds += float(slow.get("seconds", 2))
        if seconds and not world.by_hand:
            time.sleep(seconds)

    def _work(self, request: Request) -> Answer:
        world = self._world
        _lose_before(world.faults, request.line)
        failed = world.faults.take("error_500_before", request.line)
        stored = failed is None or bool(failed.get("stored", False))
        error = _SHIELDED if failed is not None else None
        answer = Answer(500, {}, b"")
        if error is None:
            answer, error = self._done(request)
            if world.faults.take("error_500_after", request.line):
                error = _SHIELDED
        if error is not None:
            answer = _told(error, request.id, request.headers, v2=request.v2)
        if request.key is not None and stored:
            code = error.code if error is not None else None
            idempotency.keep(
                request.partition,
                idempotency.Kept(request.key, request.print, code, request.v2, world.now()),
                answer,
            )
        world.flush()
        self._show(request, answer)
        _lose_after(world.faults, request.line)
        return answer

    def _done(self, request: Request) -> tuple[Answer, StripeError | None]:
        """Call the endpoint; a mistake of the stand-in's own is a 500, and loud by hand."""
        world = self._world
        world.origin = {"id": request.id, "idempotency_key": request.key}
        try:
            found = self._table.find(request.method, request.path)
            if found is None:
                message = f"Unrecognized request URL ({request.method}: {request.path})."
                return Answer(404, {}, b""), StripeError(404, message)
            route, path = found
            call = Call(
                world,
                request.partition,
                request.params,
                path,
                request.headers,
                request.key,
                world.now(),
            )
            body = http.encode(http.public(route.handler(call)))
            return Answer(200, _headers(request.id, request.headers), body), None
        except StripeError as error:
            return Answer(error.status, {}, b""), error
        except Exception:
            if world.by_hand:
                raise
            traceback.print_exc(file=sys.stderr)
            return Answer(500, {}, b""), _SHIELDED
        finally:
            world.origin = None

    def _show(self, request: Request, answer: Answer) -> None:
        for observe in self._world.observers:
            shown = msgspec.json.decode(answer.body)
            observe(request.method, request.path, request.params, answer.status, shown)


def _claims(request: Request) -> list[tuple[Any, ...]]:
    """What no other call may be at while this one is."""
    place = (request.partition.account, request.partition.livemode)
    claims: list[tuple[Any, ...]] = []
    if request.key is not None:
        claims.append((*place, "key", request.key))
    stream = meter_events.stream_of(request.path, request.params)
    if stream is not None:
        claims.append((*place, "stream", *stream))
    return claims


def _headers(id: str, given: Mapping[str, str]) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "Request-Id": id,
        "Stripe-Version": given.get("stripe-version", VERSION),
    } | ({"Idempotency-Key": given["idempotency-key"]} if "idempotency-key" in given else {})


def _told(error: StripeError, id: str, given: Mapping[str, str], *, v2: bool) -> Answer:
    headers = _headers(id, given) | error.headers
    return Answer(error.status, headers, http.encode(http.error_body(error, id, v2=v2)))


def _fail_at_the_door(planted: faults.Faults, line: str) -> None:
    down = planted.take("down", line)
    if down is not None:
        if down.get("refuse"):
            raise NoAnswer
        raise StripeError(503, "Stripe is down.", type="api_error")
    limited = planted.take("refuse_429", line)
    if limited is not None:
        extra = {}
        if limited.get("should_retry") is not None:
            extra["Stripe-Should-Retry"] = str(limited.get("should_retry")).lower()
        if limited.get("retry_after") is not None:
            extra["Retry-After"] = str(limited.get("retry_after"))
        raise refusal(limited.get("reason", "global-rate"), extra)
    if planted.take("lock_timeout", line):
        raise meter_events.lock_timeout()


def _lose_before(planted: faults.Faults, line: str) -> None:
    if planted.take("drop_before", line):
        raise NoAnswer
    late = planted.take("timeout", line, committed=False)
    if late is not None:
        raise NoAnswer(float(late.get("seconds", 60)))


def _lose_after(planted: faults.Faults, line: str) -> None:
    if planted.take("drop_response_after_commit", line):
        raise NoAnswer
    late = planted.take("timeout", line, committed=True)
    if late is not None:
        raise NoAnswer(float(late.get("seconds", 60)))
