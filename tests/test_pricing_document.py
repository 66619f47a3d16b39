"""docs/pricing.md is true: its code runs, its commands print what it says they print."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from webapp.cli import stripemeter

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)


@pytest.fixture
def blocks(repository: Path) -> list[tuple[str, str]]:
    return BLOCK.findall((repository / "docs" / "pricing.md").read_text())


def test_the_code_runs(blocks: list[tuple[str, str]]) -> None:
    code = [text for language, text in blocks if language == "python"]
    assert len(code) >= 9
    names: dict[str, Any] = {}
    for text in code:
        assert "assert" in text
        exec(compile(text, "docs/pricing.md", "exec"), names)


def test_the_commands_print_what_it_says(
    blocks: list[tuple[str, str]], repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    (console,) = [text for language, text in blocks if language == "console"]
    said = re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", console, re.M)
    assert len(said) == 2
    for command, output in said:
        program, *arguments = shlex.split(command)
        assert program == "stripemeter"
        assert CliRunner().invoke(stripemeter, arguments).output == output
