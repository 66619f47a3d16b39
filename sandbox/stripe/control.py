"""The stand-in's own controls, under /_sandbox/: for this machine only, without a key.

GET  state                                          the clock, the counts, the streams' totals
POST totals    {"spans": [{"event_name", "customer", "start", "end"}]}
GET  clock                                          its instant, and how far it was moved
POST clock     {"advance_seconds": n} | {"to": n | "month_end"}
POST faults    {"kind", "match", "times" | "for_seconds", ...}; DELETE faults clears them
POST settings  {"latency_seconds", "lag_seconds", "limits", ...}
POST settle    {}                                   count at once what still waits
POST keys      {"revoke": key} | {"add": key, "account", "livemode"}
POST connect   {"account": id}                      the platform's keys may act for it
"""

import calendar
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec

from sandbox.stripe import http, streams
from sandbox.stripe.core import Json, Partition
from sandbox.stripe.faults import KINDS
from sandbox.stripe.http import Answer

_LOOPBACK = ("127.", "::1", "localhost")
_LONGEST_SECONDS = 10 * 366 * 86400


def stranger(address: str, headers: Mapping[str, str]) -> Answer | None:
    """The refusal of a caller from elsewhere, or of another site's page in a browser here."""
    given = {name.lower(): value for name, value in headers.items()}
    host = urlsplit(f"//{given.get('host', '')}").hostname or ""
    origin = given.get("origin")
    here = address.startswith(_LOOPBACK) and host.startswith(_LOOPBACK)
    if here and origin in (None, f"http://{given.get('host')}"):
        return None
    return _said(403, {"error": "The controls are for this machine only."})


def handle(world: Any, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
    """Answer a control; a form (the page's buttons) is sent back to the page."""
    asked = _CONTROLS.get((method, path.removeprefix("/_sandbox/")))
    if asked is None:
        return _said(404, {"error": f"There is no control {method} {path}."})
    given = {name.lower(): value for name, value in headers.items()}
    form = given.get("content-type", "").startswith("application/x-www-form-urlencoded")
    try:
        read = http.form(body.decode()) if form else _json(body)
        with world.lock:
            said = asked(world, read)
    except KeyError as error:
        hint = " (a JSON body needs Content-Type: application/json)" if form else ""
        return _said(400, {"error": f"{error} is missing{hint}."})
    except (ValueError, TypeError) as error:
        return _said(400, {"error": str(error)})
    if form:
        return Answer(303, {"Location": "/"}, b"")
    return _said(200, said)


def _json(body: bytes) -> Json:
    return msgspec.json.decode(body or b"{}", type=dict[str, Any])


def _said(status: int, said: Json) -> Answer:
    return Answer(status, {"Content-Type": "application/json"}, http.encode(said))


def state(world: Any, given: Json) -> Json:
    """What the stand-in holds, in numbers; the values are texts."""
    return {
        "now": world.now(),
        "offset_seconds": world.offset_seconds,
        "settings": world.settings.to_json(),
        "waiting": world.meters.waiting,
        "faults": list(world.faults),
        "partitions": [_partition(world, each) for each in world.partitions()],
    }


def _partition(world: Any, partition: Partition) -> Json:
    counts = {kind: len(objects) for kind, objects in partition.objects.items()}
    return {
        "account": partition.account,
        "livemode": partition.livemode,
        "counts": counts,
        "reads": world.limits.reads[partition.account, partition.livemode],
        "streams": totals(partition),
    }


def totals(partition: Partition) -> list[Json]:
    """What each meter was sent for each customer: accepted, counted and rejected."""
    known, shown = streams.of(partition), []
    for meter in partition.of("billing.meter").values():
        for customer in known.customers(meter["id"]):
            entries = known.all_of(meter["id"], customer)
            accepted = streams.total(meter, entries, _accepted, tie=known.tie)
            counted = streams.total(meter, entries, streams.visible, tie=known.tie)
            shown.append(
                {
                    "meter": meter["id"],
                    "event_name": meter["event_name"],
                    "customer": customer,
                    "events": len(entries),
                    "accepted": f"{accepted:f}",
                    "counted": f"{counted:f}",
                    "rejected": sum(each.record["state"] == "rejected" for each in entries),
                }
            )
    return shown


def between(world: Any, given: Json) -> Json:
    """What meters were sent for customers with timestamps in a span: `accepted` and `counted`."""
    partition = world.partition()
    return {"totals": [_between(partition, span) for span in given["spans"]]}


def _between(partition: Partition, span: Json) -> Json:
    known = streams.of(partition)
    for meter in partition.of("billing.meter").values():
        if meter["event_name"] == span["event_name"] and meter["status"] == "active":
            start, end = int(span["start"]), int(span["end"])
            entries = known.between(meter["id"], str(span["customer"]), start, end)
            accepted = streams.total(meter, entries, _accepted, tie=known.tie)
            counted = streams.total(meter, entries, streams.visible, tie=known.tie)
            return {"accepted": f"{accepted:f}", "counted": f"{counted:f}"}
    return {"accepted": "0", "counted": "0"}


def _accepted(record: Json) -> bool:
    return bool(record["state"] != "rejected" and record["cancel"] is None)


def clock(world: Any, given: Json) -> Json:
    now = world.now()
    if "to" in given:
        to = month_end(now) if given["to"] == "month_end" else int(given["to"])
    else:
        to = now + int(given["advance_seconds"])
    if to - now > _LONGEST_SECONDS:
        raise ValueError("The clock goes forward by at most ten years at once.")
    world.advance_to(to)
    return instant(world, given)


def instant(world: Any, given: Json) -> Json:
    return {"now": world.now(), "offset_seconds": world.offset_seconds}


def month_end(now: int) -> int:
    """The first second of the next month in UTC."""
    today = datetime.fromtimestamp(now, UTC)
    days = calendar.monthrange(today.year, today.month)[1]
    first = today.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return int(first.timestamp()) + days * 86400


def plant(world: Any, given: Json) -> Json:
    options = {k: v for k, v in given.items() if k not in ("kind", "match", "times")}
    times = int(given["times"]) if "times" in given else None
    world.faults.plant(str(given["kind"]), str(given.get("match", "")), times, **options)
    return {"faults": list(world.faults), "kinds": KINDS}


def clear(world: Any, given: Json) -> Json:
    world.faults.clear(given.get("kind"))
    return {"faults": list(world.faults)}


def settings(world: Any, given: Json) -> Json:
    world.settings.load(given)
    world.remember()
    said: Json = world.settings.to_json()
    return said


def settle(world: Any, given: Json) -> Json:
    world.settle(given.get("count"))
    return {"waiting": world.meters.waiting}


def keys(world: Any, given: Json) -> Json:
    if "revoke" in given:
        world.revoke_key(str(given["revoke"]))
        return {"revoked": given["revoke"]}
    account = str(given.get("account", world.account))
    world.add_key(str(given["add"]), account, livemode=given.get("livemode") is True)
    return {"added": given["add"], "account": account}


def connect(world: Any, given: Json) -> Json:
    world.connect(str(given["account"]))
    return {"connected": sorted(world.connected)}


_CONTROLS: dict[tuple[str, str], Callable[[Any, Json], Json]] = {
    ("GET", "state"): state,
    ("POST", "totals"): between,
    ("GET", "clock"): instant,
    ("POST", "clock"): clock,
    ("POST", "faults"): plant,
    ("DELETE", "faults"): clear,
    ("POST", "settings"): settings,
    ("POST", "settle"): settle,
    ("POST", "keys"): keys,
    ("POST", "connect"): connect,
}
