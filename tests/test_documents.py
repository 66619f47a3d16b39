"""The documents point to what exists, and the lock files to no place."""

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
