"""Scenario files: found, and read without losing a digit."""

import glob
import json
from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NoReturn

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
        path = Path(place)
        matched = [path] if path.exists() and not path.is_dir() else list(_matched(place))
        if not matched:
            raise UnreadableError(
                f"{place}: there is no scenario file here ({', '.join('*' + e for e in ENDINGS)})"
            )
        files |= dict.fromkeys(matched)
    return list(files)


def _matched(place: str) -> Iterator[Path]:
    """The scenario files in a folder, or those that a pattern matches or that lie in such a
    folder; whatever else is there is passed over."""
    names = [place] if Path(place).is_dir() else sorted(glob.glob(place, recursive=True))
    for path in map(Path, names):
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (file for file in inside if file.name.endswith(ENDINGS) and file.is_file())


def document(path: Path) -> Any:
    """The file's content; numbers as Decimals or as they are written, never as floats.

    Raises: UnreadableError saying why, with the line where there is one.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UnreadableError(f"{path}: is not UTF-8 text") from None
    if len(content) > MAX_BYTES:
        raise UnreadableError(f"{path}: is larger than 8 MiB")
    try:
        if path.name.endswith((".yaml", ".yml")):
            return yaml.load(text, Loader=_Exact)
        return json.loads(
            text, parse_float=_exact, parse_constant=_no_number, object_pairs_hook=_distinct
        )
    except RecursionError:
        raise UnreadableError(f"{path}: cannot be read: it is nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).replace('"<unicode string>", ', "").split())
        raise UnreadableError(f"{path}: cannot be read: {reason}") from None


def _exact(text: str) -> Decimal | str:
    """The number to the digit; 1e99999999999999999999 stays text, to be refused where it stands."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return text


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise ValueError(f"{name!r} stands twice in one object")
        members[name] = value
    return members


class _Exact(yaml.SafeLoader):
    """YAML whose numbers and instants stay text, and whose objects name nothing twice.
    Anchors and merges (`<<`) work; what contains itself is refused."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        assert isinstance(node, yaml.MappingNode)
        names = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                _refuse("a name must be a text", key)
            if key.value in names:
                _refuse(f"{key.value!r} stands twice in one object", key)
            names.add(key.value)
        return node

    def text(self, node: Any) -> str:
        """What is written there. A number too: 1:30, 0x1F, 1_0 and 010 are numbers to YAML and
        none to a price, which reads the text itself; `no` is a name before it is a boolean."""
        return str(self.construct_scalar(node))

    def mapping(self, node: Any) -> dict[Any, Any]:
        return self.construct_mapping(node, deep=True)


def _refuse(reason: str, node: yaml.Node) -> NoReturn:
    raise yaml.constructor.ConstructorError(None, None, reason, node.start_mark)


for _tag in ("float", "int", "timestamp", "bool"):
    _Exact.add_constructor(f"tag:yaml.org,2002:{_tag}", _Exact.text)
_Exact.add_constructor("tag:yaml.org,2002:map", _Exact.mapping)
