"""Signed requests to endpoints: who is owed one, what it says, and what its answer means.

A delivery is an object of the kind `_delivery` in the endpoint's partition: {id, event, kind,
account, endpoint, endpoint_kind, attempts, due}, `due` in seconds of the world's own clock. It
is kept until a 2xx or the last attempt: each event arrives at least once, in no certain order.
"""

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sandbox.stripe import http
from sandbox.stripe.core import ON_DELIVERY, Json, Partition, new_id

ENDPOINT, DESTINATION, KIND = "webhook_endpoint", "v2.core.event_destination", "_delivery"
EVENT, THIN = "event", "v2.core.event"
PAUSES = (1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)  # seconds before each repetition


@dataclass(frozen=True)
class Delivery:
    """A request to be made. owner: the partition of the endpoint."""

    id: str
    owner: Partition
    url: str
    headers: dict[str, str]
    body: bytes


def post(world: Any, partition: Partition, event: Json) -> None:
    """Owe the event to every endpoint that wants it."""
    wanted = list(_wanted(world, partition, event))
    if event["object"] == EVENT:
        event["pending_webhooks"] = len(wanted)
        partition.put(EVENT, event)
    for owner, endpoint in wanted:
        owed = {"id": new_id("dlv"), "event": event["id"], "kind": event["object"]}
        owed |= {"account": partition.account, "attempts": 0, "due": world.clock()}
        owed |= {"endpoint": endpoint["id"], "endpoint_kind": endpoint["object"]}
        owner.put(KIND, owed)
    if not wanted:
        for work in ON_DELIVERY:
            work(world, partition, event)


def due(world: Any) -> list[Delivery]:
    """The requests to make now; each is repeated unless `answered` hears of a 2xx in time."""
    with world.lock:
        ready: list[Delivery] = []
        held: list[Delivery] = []
        for owner in world.partitions():
            for owed in list(owner.of(KIND).values()):
                if owed["due"] <= world.clock():
                    _take(world, owner, owed, ready, held)
        world.flush()
        return ready + held


def answered(world: Any, delivery: Delivery, status: int | None) -> None:
    """Note what an endpoint said: a 2xx ends the matter. status: None where nothing came."""
    with world.lock:
        owed = delivery.owner.of(KIND).get(delivery.id)
        if owed is None or status is None or not 200 <= status < 300:
            return
        delivery.owner.remove(KIND, delivery.id)
        partition = world.partition(owed["account"], delivery.owner.livemode)
        event = partition.of(owed["kind"]).get(owed["event"])
        if event is not None:
            _less_pending(partition, event)
            for work in ON_DELIVERY:
                work(world, partition, event)
        world.flush()


def signature(secret: str, body: bytes, instant: int) -> str:
    """The header `Stripe-Signature`. Source: docs.stripe.com/webhooks/signature."""
    signed = f"{instant}.".encode() + body
    return f"t={instant},v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


def _take(
    world: Any, owner: Partition, owed: Json, ready: list[Delivery], held: list[Delivery]
) -> None:
    made = _made(world, owner, owed)
    if made is None:
        owner.remove(KIND, owed["id"])
        return
    if owed["attempts"] >= len(PAUSES):
        owner.remove(KIND, owed["id"])
        return
    line = f"WEBHOOK {made.url} {owed['type'] if 'type' in owed else made.body.decode()}"
    if world.faults.take("webhook_lose", line):
        owner.remove(KIND, owed["id"])
        return
    owed["due"] = world.clock() + PAUSES[owed["attempts"]]
    owed["attempts"] += 1
    owner.put(KIND, owed)
    late = world.faults.take("webhook_reorder", line)
    (held if late else ready).append(made)
    if world.faults.take("webhook_duplicate", line):
        ready.append(made)


def _made(world: Any, owner: Partition, owed: Json) -> Delivery | None:
    """The request, unless its endpoint is gone or disabled."""
    endpoint = owner.of(owed["endpoint_kind"]).get(owed["endpoint"])
    event = world.partition(owed["account"], owner.livemode).of(owed["kind"]).get(owed["event"])
    if endpoint is None or event is None or endpoint["status"] != "enabled":
        return None
    shown = event if owed["kind"] == EVENT else {k: v for k, v in event.items() if k != "data"}
    body = http.encode(http.public(shown))
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Stripe-Signature": signature(endpoint["_secret"], body, world.now()),
        "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
    }
    return Delivery(owed["id"], owner, endpoint["_url"], headers, body)


def _less_pending(partition: Partition, event: Json) -> None:
    if event.get("pending_webhooks"):
        event["pending_webhooks"] -= 1
        partition.put(EVENT, event)


def _wanted(world: Any, partition: Partition, event: Json) -> Iterator[tuple[Partition, Json]]:
    yield from _endpoints(partition, event, others=False)
    if partition.account != world.account:
        platform = world.partition(world.account, partition.livemode)
        yield from _endpoints(platform, event, others=True)


def _endpoints(owner: Partition, event: Json, *, others: bool) -> Iterator[tuple[Partition, Json]]:
    thin = event["object"] == THIN
    form = "thin" if thin else "snapshot"
    for each in () if thin else owner.of(ENDPOINT).values():
        if each["_connect"] == others and _listens(each, event["type"]):
            yield owner, each
    for each in owner.of(DESTINATION).values():
        here = "other_accounts" in each["events_from"] if others else "self" in each["events_from"]
        if here and each["event_payload"] == form and _listens(each, event["type"]):
            yield owner, each


def _listens(endpoint: Json, type: str) -> bool:
    wanted = endpoint["enabled_events"]
    return endpoint["status"] == "enabled" and ("*" in wanted or type in wanted)
