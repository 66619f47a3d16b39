"""docs/stripe.md is true: its commands run, in its order, against the stand-in for Stripe."""

import json
import re
import shlex
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy.orm import Session

from metering.catalog.mirror import StripeMeter
from metering.stripe.webhooks import SUBJECTS
from sandbox.stripe.server import serving
from sandbox.stripe.world import World
from tests.webapp.support import make_key
from webapp import cursor, stripe_access
from webapp.cli import stripemeter
from webapp.config import Config

BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```", re.M | re.S)
STRIPE, TEST_KEY = "https://api.stripe.com", "sk_test_document"


@dataclass
class Reader:
    """Who does what the document says. names: what its variables stand for."""

    client: Any
    stripe: str
    account: str
    tenant: str
    names: dict[str, str] = field(default_factory=dict)

    def said(self, text: str) -> str:
        for name, value in sorted(self.names.items(), reverse=True):
            text = text.replace(f"${name}", value)
        text = text.replace("acct_1AcmeExample", self.account)
        return re.sub(r"\bacme\b", self.tenant, text)

    def run(self, block: str) -> None:
        """A console's commands print what the document says they print."""
        for command, printed in re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", block, re.M):
            program, *arguments = shlex.split(self.said(command))
            assert program == "stripemeter"
            result = CliRunner().invoke(stripemeter, arguments)
            expected = re.escape(self.said(printed)).replace("…", r"[\w:-]+")
            assert re.fullmatch(expected, result.output), result.output
            for name, value in re.findall(r"^(meter|price|mapping) +(\w+)", result.output, re.M):
                self.names[name.upper()] = value

    def call(self, command: str) -> Any:
        """A call of curl's succeeds."""
        program, *words = shlex.split(self.said(command))
        assert program == "curl"
        method, url, headers, data = None, "", {}, []
        while words:
            word = words.pop(0)
            match word:
                case "-X":
                    method = words.pop(0)
                case "-H":
                    name, _, value = words.pop(0).partition(": ")
                    headers[name] = value
                case "-d":
                    data.append(words.pop(0))
                case _:
                    url = word
        method = method or ("POST" if data else "GET")
        if url.startswith(STRIPE):
            return self._stripe(url.removeprefix(STRIPE), headers, data)
        answer = self.client.open(url, method=method, headers=headers, data="".join(data))
        assert 200 <= answer.status_code < 300, answer.text
        return answer.get_json(silent=True)

    def _stripe(self, path: str, headers: dict[str, str], data: list[str]) -> Any:
        is_form = "Content-Type" not in headers
        body = "&".join(data).replace(" ", "+" if is_form else " ").encode()
        request = urllib.request.Request(self.stripe + path, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                made = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from None
        self.names[made["object"].upper()] = made["id"]
        return made


@pytest.fixture
def blocks(repository: Path) -> list[tuple[str, str, str]]:
    return BLOCK.findall((repository / "docs" / "stripe.md").read_text())


@pytest.fixture
def reader(
    session: Session,
    config: Config,
    make_shut: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    now: datetime,
) -> Iterator[Reader]:
    name = uuid.uuid4().hex[:12]
    tenant, account = f"acme{name}", f"acct_1{name}"
    world = World(calm=True)
    world.add_key(TEST_KEY, account, livemode=False)
    monkeypatch.chdir(tmp_path)
    with serving(world) as url:
        for variable, value in {
            "DATABASE_URL": config.database_url,
            "STRIPE_TEST_KEY": TEST_KEY,
            "STRIPE_API_BASE": url,
            "STRIPE_ACCOUNT": account,
        }.items():
            monkeypatch.setenv(variable, value)
        for variable in ("STRIPE_LIVE_KEY", "STRIPEMETER_CLOCK_FILE"):
            monkeypatch.delenv(variable, raising=False)
        made = CliRunner().invoke(stripemeter, ["tenants", "create", tenant])
        assert made.exit_code == 0, made.output
        key = make_key(session, tenant, ["all"], now=now)
        app = make_shut(stripe_test_key=TEST_KEY, stripe_api_base=url, stripe_account=account)
        names = {
            "KEY": key,
            "STRIPE_TEST_KEY": TEST_KEY,
            "STRIPEMETER": "http://localhost",
            "STUCK": cursor.write(("held", "test", "nobody", "tokens")),
        }
        yield Reader(app.test_client(), url, account, tenant, names)


@pytest.fixture
def make_shut(config: Config) -> Iterator[Any]:
    """Builds an app that wants a key, with these settings."""
    from webapp import create_app
    from webapp.extensions import db

    made = []

    def make(**settings: Any) -> Any:
        made.append(create_app(replace(config, sandbox=False, **settings)))
        return made[-1]

    yield make
    stripe_access._driver.cache_clear()
    for app in made:
        with app.app_context():
            db.engine.dispose()


def test_its_commands_run_in_its_order(
    blocks: list[tuple[str, str, str]], reader: Reader, session: Session
) -> None:
    ran = 0
    for language, name, text in blocks:
        if name:
            Path(name).write_text(text)
        elif language == "console":
            reader.run(text)
            ran += 1
        elif language == "sh":
            for command in re.findall(r"^curl .*?(?=\n\s*\n|\ncurl |\Z)", text, re.M | re.S):
                reader.call(command.replace("\\\n", " "))
                ran += 1
    assert ran >= 14
    meter = session.get(StripeMeter, (reader.tenant, "test", reader.account, reader.names["METER"]))
    assert meter is not None
    assert meter.event_name == "tokens"


def test_a_tenants_only_account_need_not_be_named(reader: Reader, tmp_path: Path) -> None:
    other, account = f"{reader.tenant}-2", f"{reader.account}x"
    (tmp_path / "price.json").write_text('{"model":"flat","currency":"usd","unitPrice":"1"}')
    for arguments in (
        ["stripe", "bind", "--tenant", reader.tenant, "--account", reader.account],
        ["tenants", "create", other],
        ["stripe", "bind", "--tenant", other, "--account", account],
    ):
        assert CliRunner().invoke(stripemeter, arguments).exit_code == 0
    words = ["stripe", "provision", "--tenant", other, "--metric", "tokens", "--mode", "test"]
    made = CliRunner().invoke(stripemeter, [*words, "--price", "price.json"])
    # The key may not act for it: Stripe was asked, and for this account.
    assert f"does not have access to account '{account}'" in str(made.exception)


def test_every_event_to_subscribe_is_one_that_is_handled(repository: Path) -> None:
    text = (repository / "docs" / "stripe.md").read_text()
    snapshots = re.findall(r'"enabled_events\[\]"=(\S+)', text)
    thin = re.findall(r'"v1\.(billing\.[a-z_.]+)"', text)
    assert len(snapshots) == 20
    assert set(thin) == {each for each, subject in SUBJECTS.items() if subject == "report"}
    assert {*snapshots, *thin} <= set(SUBJECTS)
