"""docs/pricing.md is true: its code runs, its commands print what it says they print."""

import re
import shlex
from decimal import Decimal
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


# A product with its result in money, but not the last product of a sum.
PRODUCT = re.compile(
    r"(?<!\+ )(?<![\d.,])([\d.,]+) × [$€¥]?([\d.,]+)(?: cents)? = \**[$€¥]([\d.,]*\d)"
)
ROW = re.compile(r"^\| ([\d,]+) \| (?:× )?\$([\d.]+) \| \$([\d.]+) \|$|"
                 r"^\| [^|]+ \| ([\d,]+) \| × \$([\d.]+) \| \$([\d.]+) \|$", re.M)  # fmt: skip


def test_the_arithmetic_in_prose_and_tables_is_right(repository: Path) -> None:
    text = (repository / "docs" / "pricing.md").read_text()
    products = PRODUCT.findall(text)
    rows = [tuple(filter(None, found)) for found in ROW.findall(text)]
    assert len(products) >= 6
    assert len(rows) >= 6
    for factors in [*products, *rows]:
        quantity, price, total = (Decimal(each.replace(",", "")) for each in factors)
        assert round(quantity * price, 2) == total, factors


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
