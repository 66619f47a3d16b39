"""The fast lane declines or agrees with the careful one; neither falls over anything.

Batches are made as text, not as values: white space, escapes, repeated names and exotic numbers
are where two parsers differ.
"""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from metering.errors import ForbiddenError
from metering.ledger.append import Entry
from webapp import wire
from webapp.ingest import careful as careful_lane
from webapp.ingest import fast as fast_lane
from webapp.ingest.batch import Batch
from webapp.problems import ProblemError

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
settings.register_profile("lanes", derandomize=True, database=None, deadline=None)

GOOD = {
    "tenantId": ['"t"', '"t"', '"t"', '"other"', '"zo\\u00eb"', '"zoë"'],
    "metric": ['"api_calls"', '"m"', '"ts"', '"\\"meta\\""', '"größe"', '"\\u006d"'],
    "customerRef": ['"cus_1"', '"😀"', '"\\ud83d\\ude00"', '"a\\/b"', '"\\"ts\\""'],
    "quantity": [
        "1", "0", "-0", "0.5", "1e3", "1E-7", '"12"', '"0.10"', '"1e2"', '"007"', "1.0e+1",
        "99999999999999999999", "0.000000000001", "1.00000000000000000000", '"\\u0031"',
    ],
    "ts": [
        '"2026-01-16T14:30:00Z"', '"2026-01-16T14:30:00.000001Z"', '"2026-01-16T23:30:00-08:00"',
        '"2026-11-01T12:59:59Z"', '"2024-02-29T00:00:00+05:30"', '"2026-01-16T14:30:00\\u005a"',
    ],
    "idempotencyKey": ["null", '"k"', '"k2"', '"\\u006b"', '"ключ"'],
    "resourceId": ["null", '""', '"r"', '"\\t"'],
    "meta": [
        "null", "{}", '{"a":1}', '{ "a" : [ 1 , 2.50, 1e400 ] }', '{"a":1,"a":2}',
        '{"tenantId":"other","meta":{"ts":1}}', '{"é":"\\u00e9\\n"}', '{"x":"\\ud83d\\ude00"}',
        '{"deep":[[[[[[[[1]]]]]]]]}', '{"big":123456789012345678901234567890}', '{"q":"[{"}',
    ],
    "source": ["null", '""', '"sdk"', '"\\u0073"'],
}  # fmt: skip
BAD = {
    "tenantId": ['""', "1", "null", '"a\\nb"', '"\\u0000"', json.dumps("t" * 129)],
    "metric": ['""', "null", "{}", '"\\ud800"', json.dumps("m" * 101), '"\\u0000"', '"a\nb"'],
    "customerRef": ['""', "[]", '"\\udfff"', json.dumps("é" * 256), "true"],
    "quantity": [
        "true", "null", '"abc"', '" 12 "', '"1_000"', "NaN", "-1", "1e400", "1e20", "9" * 5000,
        "007", "1.", ".5", "+1", '"NaN"', '"-0.1"', "1e-13", "[]", '"١"', '"1\\n"', "Infinity",
        "0.0000000000001", '""', "0e99", '"0x1"', "- 1",
    ],
    "ts": [
        '"2026-01-16T23:59:59.9999996Z"', '"2026-01-16T14:30:00"', '"2026-11-01T14:00:00Z"', "1",
        '"1999-12-31T23:59:59Z"', '"2026-01-16T23:59:60Z"', '"2026-01-16T24:00:00Z"', "null",
        '"2026-01-16 14:30:00Z"', '"2026-01-16T14:30:00+24:00"', '"2026-01-16T14:30Z"',
        '"20260116T143000Z"', '"2026-W03-5T14:30:00Z"', '"2026-01-16T14:30:00,5Z"',
    ],
    "idempotencyKey": ['""', "1", '"\\u0000"', json.dumps("k" * 256), '"\\ud800\\ud800"'],
    "resourceId": [json.dumps("r" * 256), "0", "false", '"\\u0000"'],
    "meta": [
        "[]", '""', "1", '{"a":NaN}', '{"a":"\\u0000"}', '{"a":"\\ud800"}', '{"\\udc00":1}',
        "{" + '"a":{' * 40 + "}" * 41, '{"a":"' + "x" * 4096 + '"}', '{"a":"\\x"}', '{"a":01}',
    ],
    "source": [json.dumps("s" * 65), "{}", '"\\u0000"'],
    "surprise": ["1"],
    "tenant_id": ['"t"'],
}  # fmt: skip
REQUIRED = ("tenantId", "metric", "customerRef", "quantity", "ts")
SPACE = st.sampled_from(["", "", "", " ", "\n\t", "\r\n "])


@st.composite
def members(draw: st.DrawFn) -> list[str]:
    """The members of one event, mostly good and complete."""
    optional = [name for name in GOOD if name not in REQUIRED]
    names = [*REQUIRED, *draw(st.lists(st.sampled_from(optional), unique=True))]
    spoilt = draw(st.sampled_from(["", "", "", "", "", "value", "twice", "missing", "unknown"]))
    at = draw(st.integers(0, len(names) - 1))
    values = [draw(st.sampled_from(GOOD[name])) for name in names]
    if spoilt == "value":
        values[at] = draw(st.sampled_from(BAD[names[at]]))
    elif spoilt == "twice":
        values.append(draw(st.sampled_from([values[at], *GOOD[names[at]]])))
        names.append(names[at])
    elif spoilt == "missing":
        del names[at], values[at]
    elif spoilt == "unknown":
        names.append(draw(st.sampled_from(["surprise", "tenant_id", "TenantId", ""])))
        values.append("1")
    pairs = draw(st.permutations(list(zip(map(json.dumps, names), values, strict=True))))
    if draw(st.integers(0, 9)) == 0:
        first = draw(st.integers(0, len(pairs) - 1))
        name, value = pairs[first]
        pairs[first] = (name[:1] + f"\\u{ord(name[1]):04x}" + name[2:], value)
    between = draw(SPACE)
    return [f"{between}{name}{between}:{between}{value}" for name, value in pairs]


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A batch as bytes, now and then damaged."""
    events = ["{" + ",".join(m) + draw(SPACE) + "}" for m in draw(st.lists(members(), max_size=4))]
    if draw(st.integers(0, 19)) == 0:
        events.append(draw(st.sampled_from(["1", "null", "[]", '"x"'])))
    name = draw(st.sampled_from(['"events"'] * 18 + ['"e\\u0076ents"', '"events":[],"events"']))
    gap = draw(SPACE)
    body = f"{gap}{{{name}{gap}:{gap}[{','.join(events)}]{gap}}}{gap}".encode()
    damage = draw(st.sampled_from(["none"] * 14 + ["cut", "byte"]))
    at = draw(st.integers(0, len(body) - 1))
    if damage == "cut":
        return body[:at]
    if damage == "byte":
        return body[:at] + draw(st.binary(min_size=1, max_size=3)) + body[at + 1 :]
    return body


def pairs(text: bytes) -> object:
    decoded = text.decode(errors="surrogateescape")
    return json.loads(decoded, object_pairs_hook=list, parse_int=str, parse_float=str)


def seen(batch: Batch) -> dict[str, Any]:
    """A batch with everything brought to the form in which two lanes must be equal."""
    return {
        "size": batch.size,
        "tenants": batch.tenants,
        "derived": batch.derived,
        "errors": batch.errors,
        "entries": {i: entry_seen(entry) for i, entry in batch.entries.items()},
    }


def entry_seen(entry: Entry) -> tuple[object, ...]:
    return (
        entry.idempotency_key,
        entry.metric,
        entry.customer_ref,
        entry.resource_id,
        entry.source,
        Decimal(bytes(entry.quantity).decode().strip('"')).normalize().as_tuple(),
        wire.read_instant(entry.occurred_at),
        None if entry.meta is None else pairs(bytes(entry.meta)),
    )


def verdict(lane: Any, body: bytes, own_tenant: str | None, key: str | None) -> Any:
    """What the lane makes of a body: None, what it read, or the kind of its refusal."""
    try:
        batch = lane(body, own_tenant, key, NOW)
    except ProblemError as error:
        return error.status
    except ForbiddenError:
        return 403
    return batch if batch is None else seen(batch)


@settings(settings.get_profile("lanes"), max_examples=1200)
@given(
    body=bodies(),
    own_tenant=st.sampled_from([None, None, "t"]),
    key=st.sampled_from([None, None, "K"]),
)
def test_the_fast_lane_declines_or_agrees(
    body: bytes, own_tenant: str | None, key: str | None
) -> None:
    fast = verdict(fast_lane.read, body, own_tenant, key)
    event("declined" if fast is None else "taken")
    careful = verdict(careful_lane.read, body, own_tenant, key)
    assert fast in (None, careful)
    if isinstance(fast, dict):
        assert not fast["errors"]
        assert fast["entries"].keys() == set(range(fast["size"]))


@settings(settings.get_profile("lanes"), max_examples=200)
@given(st.data())
def test_bytes_in_a_string_of_meta_are_looked_at(data: st.DataObject) -> None:
    # msgspec checks the strings that it decodes, but not those inside of a Raw.
    inside = data.draw(st.binary(max_size=4))
    good = {name: values[0] for name, values in GOOD.items() if name in REQUIRED}
    event_text = ",".join(f'"{name}":{value}' for name, value in good.items())
    body = b'{"events":[{%s,"meta":{"a":"%s"}}]}' % (event_text.encode(), inside)
    fast = verdict(fast_lane.read, body, None, None)
    assert fast is None or fast == verdict(careful_lane.read, body, None, None)


def test_the_fast_lane_takes_what_is_good() -> None:
    """Else the property above would hold of a lane that declines everything."""
    for name, values in GOOD.items():
        for value in values:
            written = {other: texts[0] for other, texts in GOOD.items()} | {name: value}
            text = ",".join(f'"{n}":{v}' for n, v in written.items())
            taken = fast_lane.read(b'{"events":[{%s}]}' % text.encode(), None, None, NOW)
            assert taken is not None or "\\u003" in value or "\\" in value, value


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from([*GOOD]), inner),
    max_leaves=8,
)


@settings(settings.get_profile("lanes"), max_examples=400)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.binary(max_size=60).map(lambda b: b'{"events":[' + b + b"]}"),
        st.text(alphabet='{}[]":,\\u0dEeNa-1. \n\x00é😀').map(str.encode),
        JSON_LIKE.map(lambda value: json.dumps(value).encode()),
        JSON_LIKE.map(lambda value: json.dumps({"events": [value]}).encode()),
        st.lists(JSON_LIKE).map(lambda value: json.dumps({"events": value}).encode()),
    ),
    st.sampled_from([None, "t"]),
)
def test_no_bytes_make_a_lane_fall_over(body: bytes, own_tenant: str | None) -> None:
    verdict(fast_lane.read, body, own_tenant, None)
    answered = verdict(careful_lane.read, body, own_tenant, "K")
    if isinstance(answered, int):
        assert answered in (400, 403)
    else:
        assert len(answered["entries"]) + len(answered["errors"]) == answered["size"]


@pytest.mark.parametrize("opening", [b"[", b'{"events":[', b'{"events":[{"meta":{"a":', b'[{"":'])
def test_absurd_nesting_makes_no_lane_fall_over(opening: bytes) -> None:
    for body in (opening * 200_000, b'{"events":[{"meta":' + opening * 300 + b"}]}"):
        assert verdict(fast_lane.read, body, None, None) is None
        assert verdict(careful_lane.read, body, None, None) == 400
