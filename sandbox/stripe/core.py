"""What every part of the stand-in is written against: calls, errors, routes and partitions.

A partition is what Stripe keeps apart: one account in one mode. Its objects are JSON objects
exactly as the API shows them; members whose names begin with an underscore are our own and never
leave. Instants are whole unix seconds of the stand-in's clock.
"""

import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


class StripeError(Exception):
    """An error as Stripe tells it. type: such as `invalid_request_error`."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.type = status, message, type
        self.code, self.param, self.headers = code, param, dict(headers or {})


def missing(kind: str, id: str, param: str = "id") -> StripeError:
    return StripeError(404, f"No such {kind}: '{id}'", code="resource_missing", param=param)


@dataclass
class Partition:
    """All objects of one account in one mode, by kind and id."""

    account: str
    livemode: bool
    objects: dict[str, dict[str, Json]] = field(default_factory=dict)
    derived: dict[str, Any] = field(default_factory=dict)  # made from the objects, never stored

    def of(self, kind: str) -> dict[str, Json]:
        """The objects of a kind by id, in the order of their making."""
        return self.objects.setdefault(kind, {})

    def get(self, kind: str, id: str, param: str = "id") -> Json:
        found = self.of(kind).get(id)
        if found is None:
            raise missing(kind, id, param)
        return found

    def put(self, kind: str, obj: Json) -> Json:
        """Add or replace an object. What was changed in place must be put again: it is how the
        store learns of it."""
        self.of(kind)[obj["id"]] = obj
        return obj

    def remove(self, kind: str, id: str) -> None:
        self.of(kind).pop(id, None)


@dataclass
class Call:
    """One request to one route. params: nested as sent, numbers still texts (v1)."""

    world: Any
    partition: Partition
    params: Json
    path: dict[str, str]
    headers: Mapping[str, str]
    idempotency_key: str | None
    now: int

    def emit(self, type: str, obj: Json, **data: Any) -> None:
        """Make an event of a snapshot of the object, and see to its delivery."""
        self.world.emit(self.partition, type, obj, **data)


Handler = Callable[[Call], Json]


@dataclass(frozen=True)
class Route:
    method: str
    template: str
    pattern: re.Pattern[str]
    handler: Handler


ROUTES: list[Route] = []


def route(method: str, template: str) -> Callable[[Handler], Handler]:
    """Serve a path of Stripe's, written as in its specification: `/v1/prices/{price}`."""
    pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template) + "$")

    def bind(handler: Handler) -> Handler:
        ROUTES.append(Route(method, template, pattern, handler))
        return handler

    return bind


def found(method: str, path: str) -> Iterator[tuple[Route, dict[str, str]]]:
    for each in ROUTES:
        match = each.pattern.match(path)
        if match and each.method == method:
            yield each, match.groupdict()


def new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(12)}"


OnTime = Callable[[Any, Partition, int], None]
OnDelivery = Callable[[Any, Partition, Json], None]

ON_TIME: list[OnTime] = []
ON_DELIVERY: list[OnDelivery] = []


def on_time(work: OnTime) -> OnTime:
    """Have `work(world, partition, until)` called whenever the clock has moved: it does what has
    fallen due up to `until`, earliest first, each step under `with world.at(instant):`."""
    ON_TIME.append(work)
    return work


def on_delivery(work: OnDelivery) -> OnDelivery:
    """Have `work(world, partition, event)` called when an endpoint answers an event with a 2xx;
    also at once for an event that no endpoint wants."""
    ON_DELIVERY.append(work)
    return work
