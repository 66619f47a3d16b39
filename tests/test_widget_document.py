"""docs/widget.md is true: its code makes tokens, its options and its sentences are the widget's."""

import ast
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from tests.browser.conftest import serve
from tests.webapp.support import make_key
from webapp import create_app
from webapp.config import Config
from webapp.extensions import db

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)
ORIGIN, METER = "https://app.example.com", "https://meter.example.com"


@pytest.fixture(scope="module")
def text() -> str:
    return (Path(__file__).parents[1] / "docs" / "widget.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return [body for of, body in BLOCK.findall(text) if of == language]


@pytest.fixture(scope="module")
def app(config: Config) -> Iterator[Flask]:
    """As production runs it."""
    made = create_app(replace(config, sandbox=False))
    yield made
    with made.app_context():
        db.engine.dispose()


@pytest.fixture(scope="module")
def address(app: Flask) -> Iterator[str]:
    yield from serve(app)


@pytest.fixture
def key(session: Session, tenant: str) -> str:
    scopes = ["widget:read", "widget:write", "usage:write"]
    return make_key(session, tenant, scopes, now=datetime.now(UTC))


def opens(app: Flask, token: str) -> bool:
    """Whether a page of the document's origin gets a frame for the token."""
    answer = app.test_client().post(
        "/v1/widget/frames", json={"token": token}, headers={"Origin": ORIGIN}
    )
    return answer.status_code == 201


def test_the_backend_in_python_makes_a_token(
    text: str, app: Flask, address: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRIPEMETER", address)
    monkeypatch.setenv("KEY", key)
    names: dict[str, Any] = {}
    [code] = blocks(text, "python")
    exec(compile(code, "docs/widget.md", "exec"), names)
    assert opens(app, names["usage_widget_token"]("cus_1"))


def test_the_backend_in_node_makes_a_token(text: str, app: Flask, address: str, key: str) -> None:
    """Where there is no Node, the code is at least the other one's in another spelling."""
    [code] = blocks(text, "javascript")
    assert "/v1/widget/tokens" in code
    assert f'origins: ["{ORIGIN}"]' in code
    node = shutil.which("node")
    if node is None:
        return
    told = subprocess.run(
        [node, "-e", f"{code}\nusageWidgetToken('cus_1').then(console.log)"],
        env={"STRIPEMETER": address, "KEY": key},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert opens(app, told.stdout.strip())


def test_its_commands_run_and_its_answer_has_its_members(text: str, app: Flask, key: str) -> None:
    client, found, made = app.test_client(), 0, {}
    for block in blocks(text, "sh"):
        for command in block.replace("\\\n", " ").splitlines():
            said = command.replace("$STRIPEMETER", "").replace("$KEY", key)
            answer = client.open(**_request(said.replace("$ID", made.get("id", ""))))
            assert 200 <= answer.status_code < 300, (command, answer.text)
            found += 1
            if answer.status_code == 201:
                made = answer.get_json()
    assert found == 5
    [shown] = [json.loads(body) for body in blocks(text, "json")]
    assert shown.keys() == made.keys()
    assert {name: shown[name] for name in ("customerRef", "metrics", "origins", "revokedAt")} == {
        name: made[name] for name in ("customerRef", "metrics", "origins", "revokedAt")
    }
    assert not opens(app, made["token"])


def _request(command: str) -> dict[str, Any]:
    """A call of curl's as the test client takes it."""
    program, *words = shlex.split(command)
    assert program == "curl"
    asked: dict[str, Any] = {"method": "GET", "headers": {}}
    while words:
        match words.pop(0):
            case "-X":
                asked["method"] = words.pop(0)
            case "-H":
                name, _, value = words.pop(0).partition(": ")
                asked["headers"][name] = value
            case "-d":
                asked["data"] = words.pop(0)
            case path:
                asked["path"] = path
    return asked


def test_its_options_are_those_that_the_script_reads(text: str, repository: Path) -> None:
    [table] = re.findall(r"^## Options\n(.*?)^## ", text, re.M | re.S)
    named = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (.*?) \|", table, re.M))))
    named |= set(re.findall(r"`(\w+)` is the same", table))
    script = (repository / "webapp" / "static" / "widget.js").read_text()
    read = set(re.findall(r"\boptions\.(\w+)", script))
    taken = r"(?:const |function looks\()\{ ([^{}]+) \}(?: = options\b|\) \{)"
    for names in re.findall(taken, script):
        read |= set(re.findall(r"(\w+)(?: = [^,]+)?(?:, |$)", names))
    assert len(named) >= 12
    assert named == read


def test_what_it_quotes_is_what_is_said(text: str, repository: Path) -> None:
    """Every sentence in quotation marks stands in the source, but for its figures and names."""
    web = repository / "webapp"
    sources = [*(web / "widget").glob("*.py"), web / "auth.py", web / "endpoint.py"]
    sources += [web / "problems.py", repository / "metering" / "tenancy" / "widgets.py"]
    said = [literal for path in sources for literal in _literals(path)]
    for path in (web / "static" / "widget.js", web / "static" / "widget-frame.js"):
        script = re.sub(r'" \+ [\w.]+(?:\([^()]*\))? \+ "', "{}", path.read_text())
        script = re.sub(r'" \+ where \+ "', "{}", script)
        found = re.findall(r'"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`', script)
        said += [re.sub(r"\$\{[^}]*\}", "{}", (a or b).replace('\\"', '"')) for a, b in found]
    said += [path.read_text() for path in (web / "templates" / "widget").glob("*.html")]
    quoted = re.findall(r'\| (?:40[13] |422 )?"(.+?)" \|', text)
    assert len(quoted) >= 25
    missing = []
    for sentence in quoted:
        told = re.sub(r"^(?:40[13]|422) ", "", sentence)
        if not any(_says(literal, told) for literal in said):
            missing.append(sentence)
    assert missing == []


def _says(literal: str, sentence: str) -> bool:
    """A literal's places may hold anything; a sentence may stand among others."""
    parts = re.split(r"\{[^}]*\}", literal.strip())
    if sum(map(len, parts)) < len(sentence) / 2:
        return False
    pattern = ".+?".join(re.escape(part) for part in parts)
    return bool(re.fullmatch(pattern, sentence)) or sentence.removesuffix("…") in literal


def _literals(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(
                str(each.value) if isinstance(each, ast.Constant) else "{}" for each in node.values
            )
