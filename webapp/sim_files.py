"""Scenario files: found, and read without losing a digit."""

import glob
import json
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

ENDINGS = (".sim.json", ".sim.yaml", ".sim.yml")
MAX_BYTES = 8 * 1024 * 1024


class UnreadableError(Exception):
    """A file that cannot be read, or holds neither JSON nor YAML."""


def found(places: Iterable[str]) -> list[Path]:
    """The files that the places name: files, folders (searched whole) and patterns.

    Raises: UnreadableError for a place that names nothing.
    """
    files: dict[Path, None] = {}
    for place in places:
        matched = list(_matched(place))
        if not matched:
            raise UnreadableError(
                f"{place}: there is no scenario file here ({', '.join('*' + e for e in ENDINGS)})"
            )
        files |= dict.fromkeys(matched)
    return list(files)


def _matched(place: str) -> Iterator[Path]:
    path = Path(place)
    if path.is_dir():
        yield from sorted(
            inner for inner in path.rglob("*") if inner.name.endswith(ENDINGS) and inner.is_file()
        )
    elif path.exists():
        yield path
    else:
        named = (Path(name) for name in sorted(glob.glob(place, recursive=True)))
        yield from (inner for inner in named if inner.name.endswith(ENDINGS))


def document(path: Path) -> Any:
    """The file's content; numbers as Decimals or as they are written, never as floats.

    Raises: UnreadableError saying why, with the line where there is one.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UnreadableError(f"{path}: is larger than 8 MiB")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UnreadableError(f"{path}: is not UTF-8 text") from None
    try:
        if path.name.endswith((".yaml", ".yml")):
            return yaml.load(text, Loader=_Exact)
        return json.loads(
            text, parse_float=Decimal, parse_constant=_no_number, object_pairs_hook=_distinct
        )
    except (yaml.YAMLError, ValueError, ArithmeticError, RecursionError) as error:
        reason = " ".join(str(error).split()) or "it is nested too deeply"
        raise UnreadableError(f"{path}: cannot be read: {reason}") from None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a number in JSON")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return members


class _Exact(yaml.SafeLoader):
    """YAML whose numbers keep their digits and whose instants stay text."""


def _text(loader: yaml.SafeLoader, node: yaml.Node) -> str:
    """What is written there. A number too: 1:30, 0x1F, 1_0 and 010 are numbers to YAML and none to
    a price, which reads the text itself; `no` is a name before it is a boolean."""
    if not isinstance(node, yaml.ScalarNode):
        raise _wrong("is not a plain value", node)
    return str(node.value)


def _wrong(reason: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, reason, node.start_mark)


def _mapping(loader: yaml.SafeLoader, node: yaml.Node) -> dict[Any, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise _wrong("is not an object", node)
    loader.flatten_mapping(node)
    members: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise _wrong("a name must be a text", key_node)
        if key in members:
            raise _wrong(f"{key!r} stands twice in one object", key_node)
        members[key] = loader.construct_object(value_node, deep=True)
    return members


for _tag in ("float", "int", "timestamp", "bool"):
    _Exact.add_constructor(f"tag:yaml.org,2002:{_tag}", _text)
_Exact.add_constructor("tag:yaml.org,2002:map", _mapping)
