"""Stripe's own specification as the judge of requests and answers; a hook for `World.observers`.

Transforms make it plain JSON Schema: `nullable` becomes a real alternative of null, every object
whose members are listed is closed, as the server closes them (`Received unknown parameter`), and
lists of words that Stripe does not hold its own server to are open. Values of forms are texts:
they are read by their schema first.
"""

import functools
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

_FILE = Path(__file__).parent / "data" / "stripe_openapi.json"
_NUMBERS = {"integer": int, "number": float}


def check(method: str, path: str, params: Any, status: int, answer: Any) -> None:
    """Hold a request that was accepted, and any answer, against the specification.

    Raises: AssertionError that names the call and what is wrong.
    """
    operation = _operation(method, path)
    if operation is None:
        assert status in (401, 403, 404, 429, 503), f"{method} {path} is not in the specification"
        return
    if status < 400:
        shape = _request(operation)
        _hold(shape, _read(params, shape), f"{method} {path}: the request")
    _hold(_response(operation, status), answer, f"{method} {path}: the answer {status}")


@contextmanager
def held_against(world: Any) -> Iterator[None]:
    """Hold every exchange of a world against the specification; what breaks it is told at the
    end, for it is found in the world's own threads."""
    broken: list[str] = []

    def watch(*exchange: Any) -> None:
        try:
            check(*exchange)
        except AssertionError as error:
            broken.append(str(error))

    world.observers.append(watch)
    yield
    assert not broken, "\n".join(broken)


def _hold(shape: Any, value: Any, what: str) -> None:
    faults = sorted(_validator(json.dumps(shape)).iter_errors(value), key=lambda each: each.path)
    told = [f"{'/'.join(map(str, each.absolute_path))}: {each.message[:600]}" for each in faults]
    assert not told, f"{what} breaks the specification:\n" + "\n".join(told)


@functools.cache
def specification() -> Any:
    return _transformed(json.loads(_FILE.read_text()))


def _transformed(node: Any) -> Any:
    if isinstance(node, list):
        return [_transformed(each) for each in node]
    if not isinstance(node, dict):
        return node
    made = {name: _transformed(each) for name, each in node.items() if name != "nullable"}
    if made.get("type") == "object" and made.get("properties"):
        made.setdefault("additionalProperties", False)
    if made.get("x-stripeBypassValidation"):  # Stripe itself takes values that it does not list
        made.pop("enum", None)
    if "oneOf" in made:  # v2 lists its general error beside those that are instances of it
        made["anyOf"] = made.pop("oneOf")
    if node.get("nullable") is True:
        return {"anyOf": [made, {"type": "null"}]}
    return made


@functools.cache
def _paths() -> list[tuple[re.Pattern[str], str]]:
    templates = sorted(specification()["paths"], key=lambda each: each.count("{"))
    return [(re.compile(re.sub(r"\{\w+\}", "[^/]+", each) + "$"), each) for each in templates]


def _operation(method: str, path: str) -> Any:
    for pattern, template in _paths():
        operations = specification()["paths"][template]
        if pattern.match(path) and method.lower() in operations:
            return operations[method.lower()]
    return None


def _request(operation: Any) -> Any:
    """The schema of all parameters of a request but the path's."""
    queried = [each for each in operation.get("parameters", []) if each["in"] == "query"]
    if queried:
        return {
            "type": "object",
            "properties": {each["name"]: each["schema"] for each in queried},
            "required": [each["name"] for each in queried if each.get("required")],
            "additionalProperties": False,
        }
    contents = operation.get("requestBody", {}).get("content", {})
    return next((each["schema"] for each in contents.values()), {"type": "object"})


def _response(operation: Any, status: int) -> Any:
    responses = operation["responses"]
    content = responses.get(str(status), responses["default"])["content"]
    return content["application/json"]["schema"]


@functools.lru_cache(maxsize=512)
def _validator(shape: str) -> Draft202012Validator:
    components = specification()["components"]
    return Draft202012Validator(json.loads(shape) | {"components": components})


def _read(value: Any, shape: Any) -> Any:
    """The value with its texts as the numbers and booleans that the schema wants."""
    for each in shape.get("anyOf", []):
        read = _read(value, each)
        if _validator(json.dumps(each)).is_valid(read):
            return read
    kind = shape.get("type")
    if isinstance(value, dict):
        inner, others = shape.get("properties", {}), shape.get("additionalProperties")
        others = others if isinstance(others, dict) else {}
        return {name: _read(each, inner.get(name, others)) for name, each in value.items()}
    if isinstance(value, list):
        return [_read(each, shape.get("items", {})) for each in value]
    if isinstance(value, str) and kind in _NUMBERS:
        try:
            return _NUMBERS[kind](value)
        except ValueError:
            return value
    if kind == "boolean" and value in ("true", "false"):
        return value == "true"
    return value
