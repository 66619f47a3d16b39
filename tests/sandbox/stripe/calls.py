"""Calls to a world without a socket, as the library would write them."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from sandbox.stripe.http import Answer
from sandbox.stripe.world import World

START = 1_790_000_040  # a full minute, 2026-09-21T14:14:00Z


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.instant = float(START)

    def __call__(self) -> float:
        return self.instant

    def advance(self, seconds: float) -> None:
        self.instant += seconds


class Said:
    """An answer with its body read."""

    def __init__(self, answer: Answer) -> None:
        self.status, self.headers = answer.status, answer.headers
        self.json: Any = json.loads(answer.body)

    @property
    def error(self) -> Any:
        return self.json["error"]


class Caller:
    def __init__(self, world: World, key: str = "sk_test_1") -> None:
        self.world, self.key = world, key

    def __call__(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None = None,
        **headers: str,
    ) -> Said:
        """headers: with underscores, `idempotency_key="k"`."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        given.setdefault("Authorization", f"Bearer {self.key}")
        if path.startswith("/v2/") and method == "POST":
            given["Content-Type"] = "application/json"
            body = json.dumps(params or {}).encode()
        else:
            form = urlencode(list(_flat(params or {})))
            if method == "GET" and form:
                path, form = f"{path}?{form}", ""
            body = form.encode()
        return Said(self.world.handle(method, path, given, body))

    def meter(self, event_name: str = "api_calls", formula: str = "sum", **more: Any) -> Any:
        params = {"display_name": "Calls", "event_name": event_name, **more}
        params["default_aggregation"] = {"formula": formula}
        said = self("POST", "/v1/billing/meters", params)
        assert said.status == 200, said.json
        return said.json

    def customer(self, id: str = "cus_1", livemode: bool = False, **more: Any) -> str:
        """Put a customer in place; their own endpoints are another part's."""
        partition = self.world.partition(livemode=livemode)
        partition.put("customer", {"id": id, "object": "customer", **more})
        return id

    def send(self, value: str, event_name: str = "api_calls", **more: Any) -> Said:
        """A meter event; more: customer, identifier, timestamp, key."""
        key = more.pop("key", None)
        customer = more.pop("customer", "cus_1")
        payload = {"value": value, "stripe_customer_id": customer}
        params = {"event_name": event_name, "payload": payload, **more}
        headers = {"idempotency_key": key} if key else {}
        return self("POST", "/v1/billing/meter_events", params, **headers)

    def summaries(self, meter: str, start: int, end: int, **more: Any) -> Said:
        params = {"customer": "cus_1", "start_time": start, "end_time": end, **more}
        return self("GET", f"/v1/billing/meters/{meter}/event_summaries", params)

    def total(self, meter: str, **more: Any) -> Any:
        """What the summaries show of the last day and the next hour."""
        start = int(self.world.now()) // 60 * 60
        said = self.summaries(meter, start - 86400, start + 3600, **more)
        assert said.status == 200, said.json
        return said.json["data"][0]["aggregated_value"]


def _flat(value: Any, name: str = "") -> Any:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _flat(each, f"{name}[{key}]" if name else key)
    elif isinstance(value, list):
        for at, each in enumerate(value):
            yield from _flat(each, f"{name}[{at}]")
    elif isinstance(value, bool):
        yield name, str(value).lower()
    else:
        yield name, value
