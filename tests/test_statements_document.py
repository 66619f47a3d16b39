"""docs/statements.md is true: its statement verifies, and its commands say what it says."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from metering.proof import form
from metering.proof.statement import VERSION
from webapp.cli import stripemeter

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)


@pytest.fixture(scope="module")
def text() -> str:
    return (Path(__file__).parents[1] / "docs" / "statements.md").read_text()


def test_its_statement_verifies_as_it_says(text: str, tmp_path: Path) -> None:
    [statement] = [body for of, body in BLOCK.findall(text) if of == "ndjson"]
    told = [body.partition("\n")[2] for _, body in BLOCK.findall(text) if body.startswith("$ ")]
    assert f'"version":"{VERSION}"' in statement
    path = tmp_path / "statement.ndjson"
    for content, said, status in (
        (statement, told[0], 0),
        (statement.replace('"400"', '"410"'), told[1], 1),
    ):
        path.write_text(content)
        run = CliRunner().invoke(stripemeter, ["verify", str(path)])
        assert (run.output, run.exit_code) == (said, status)


def test_every_member_of_a_line_is_told_of(text: str) -> None:
    told = set(re.findall(r"`(\w+)`", text))
    members = set(form.COLUMNS) - {"type"}
    assert members - told == set()
