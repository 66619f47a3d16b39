"""The two APIs that the demo calls: the product's in JSON, Stripe's in forms."""

import http.client
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

Json = dict[str, Any]
TIMEOUT_SECONDS = 30.0
# A call too many was not done; the demo shares the account's 25 a second with the workers.
TOO_MANY, TRIES, PAUSE_SECONDS = 429, 20, 0.25


class RefusedError(Exception):
    """An answer that is not a success."""

    def __init__(self, what: str, status: int, answer: Any) -> None:
        super().__init__(f"{what}: {status}, {_in_words(answer)}")
        self.status, self.answer = status, answer


def _in_words(answer: Any) -> str:
    """The sentence in an answer of Stripe's, of the stand-in's controls or of the product."""
    given = answer if isinstance(answer, dict) else {}
    error = given.get("error")
    said = error.get("message") if isinstance(error, dict) else error
    return str(said or given.get("detail") or json.dumps(answer)[:600])


class Api:
    """One server. Each call has a connection of its own, so threads may share this."""

    def __init__(self, base: str, headers: Mapping[str, str] | None = None) -> None:
        self.base = base
        self._place = urlsplit(base)
        self._headers = dict(headers or {})

    def get(self, path: str, **query: object) -> Any:
        given = {name: value for name, value in query.items() if value is not None}
        return self._call("GET", f"{path}?{urlencode(given)}" if given else path)

    def post(self, path: str, body: Mapping[str, Any], method: str = "POST") -> Any:
        headers = {"Content-Type": "application/json"}
        return self._call(method, path, json.dumps(body).encode(), headers)

    def delete(self, path: str) -> Any:
        return self._call("DELETE", path)

    def form(self, path: str, **fields: object) -> Any:
        """A call of Stripe's v1: nested fields are written as `recurring[meter]`."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._call("POST", path, urlencode(list(_flat(fields))).encode(), headers)

    def _call(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}
    ) -> Any:
        status, said = self._once(method, path, body, headers)
        for _ in range(TRIES):
            if status != TOO_MANY:
                break
            time.sleep(PAUSE_SECONDS)
            status, said = self._once(method, path, body, headers)
        if not 200 <= status < 300:
            raise RefusedError(f"{method} {path.partition('?')[0]}", status, said)
        return said

    def _once(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(
            self._place.hostname or "", self._place.port, timeout=TIMEOUT_SECONDS
        )
        try:
            connection.request(method, path, body, {**self._headers, **headers})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        return answer.status, json.loads(text) if text else None


def stripe(base: str, key: str) -> Api:
    return Api(base, {"Authorization": f"Bearer {key}", "Stripe-Version": "2026-05-27.dahlia"})


def _flat(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _flat(each, f"{name}[{key}]" if name else key)
    elif isinstance(value, (list, tuple)):
        for place, each in enumerate(value):
            yield from _flat(each, f"{name}[{place}]")
    elif isinstance(value, bool):
        yield name, str(value).lower()
    elif value is not None:
        yield name, str(value)
