"""The documents point to what exists, and the lock files to no place."""

import json
import re
from pathlib import Path

LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def test_every_relative_link_leads_somewhere(repository: Path) -> None:
    documents = [
        path
        for path in repository.rglob("*.md")
        if not {".venv", ".local", "node_modules"} & set(path.relative_to(repository).parts)
    ]
    assert len(documents) >= 10
    dead = [
        f"{path.relative_to(repository)}: {target}"
        for path in documents
        for target in LINK.findall(path.read_text())
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert dead == []


def test_every_setting_of_stripes_is_where_people_look_for_it(repository: Path) -> None:
    source = (repository / "webapp" / "config.py").read_text()
    names = set(re.findall(r'"(STRIPE_[A-Z_]+)"', source))
    assert len(names) >= 8
    for document in (".env.example", "README.md"):
        text = (repository / document).read_text()
        assert {name for name in names if name not in text} == set(), document
    # A platform has no stand-in beside it.
    offered = json.loads((repository / "app.json").read_text())["env"]
    assert names - {"STRIPE_API_BASE"} <= set(offered)


def test_lock_files_carry_hashes_and_no_index_address(repository: Path) -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        text = (repository / name).read_text()
        assert "--hash=sha256:" in text
        assert not re.search(r"--(extra-)?index-url|--find-links|https?://", text), name


def test_everything_in_production_is_in_development(repository: Path) -> None:
    """One version of each: what is tested is what is deployed."""
    pinned = re.compile(r"^([a-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)
    deployed = dict(pinned.findall((repository / "requirements.txt").read_text()))
    tested = dict(pinned.findall((repository / "requirements-dev.txt").read_text()))
    assert deployed
    assert {name: tested.get(name) for name in deployed} == deployed
