"""`make dev` as a newcomer meets it: usage is sent, Stripe's totals follow, a month passes, and the
final invoices are what we said they would be, metric by metric."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from sandbox.demo import TENANT, http
from sandbox.demo.comparison import Comparison
from sandbox.demo.data import REF, listed
from sandbox.demo.plan import CUSTOMERS
from sandbox.standin import KEY
from tests.scenarios.stack import eventually, free_port

READY_SECONDS = 60.0
PYTHONPATH = os.pathsep.join(str(Path(folder).resolve()) for folder in sys.path)


@dataclass
class Sandbox:
    """A running one. The three addresses are those that its banner names."""

    home: Path
    process: subprocess.Popen[bytes]
    web: http.Api
    stripe: http.Api
    demo: http.Api
    comparison: Comparison

    def projections(self) -> dict[str, Any]:
        return {each.ref: self.comparison.projection(each.ref) for each in CUSTOMERS}

    def advance_to(self, instant: int) -> None:
        self.stripe.post("/_sandbox/clock", {"to": instant})

    def refs(self) -> dict[str, str]:
        """Our customers' refs by the stand-in's ids."""
        customers = listed(self.stripe, "/v1/customers")
        return {each["id"]: each["metadata"][REF] for each in customers}

    def counts(self) -> dict[str, int]:
        """How many objects of each kind the stand-in holds, but for what happens by itself."""
        [partition] = self.stripe.get("/_sandbox/state")["partitions"]
        kinds = ("billing.meter", "product", "price", "customer", "subscription")
        return {kind: partition["counts"][kind] for kind in (*kinds, "webhook_endpoint")}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    folder = Path(tempfile.mkdtemp(prefix="stripemeter-newcomer-"))
    folder.chmod(0o755)
    output = folder / "output"
    inherited = {name: value for name, value in os.environ.items() if "STRIPE" not in name}
    environment = {
        **inherited,
        "STRIPEMETER_HOME": str(folder / "home"),
        "PORT": str(free_port()),
        "WEB_CONCURRENCY": "1",
        "PYTHONPATH": PYTHONPATH,
    }
    for name in ("DATABASE_URL", "REDIS_URL"):
        environment.pop(name, None)
    with output.open("wb") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "sandbox"],
            cwd=folder,
            env=environment,
            stdout=printed,
            stderr=printed,
        )
    try:
        yield _brought_up(folder / "home", process, output)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        shutil.rmtree(folder)


def _brought_up(home: Path, process: subprocess.Popen[bytes], output: Path) -> Sandbox:
    def said() -> str | None:
        text = output.read_text()
        assert process.poll() is None, text
        return text if "Ctrl-C stops everything" in text else None

    text = eventually(said, "the sandbox is up", READY_SECONDS)
    assert "could not be made" not in text, text
    at = {
        name: re.search(rf"{name} +(http://localhost:\d+)/", text)
        for name in ("Start here", "Demo", "Stripe")
    }
    web, demo, stripe = (
        found[1].replace("localhost", "127.0.0.1") for found in at.values() if found is not None
    )
    api = http.stripe(stripe, KEY)
    product = http.Api(web)
    return Sandbox(home, process, product, api, http.Api(demo), Comparison(product, api))


def test_a_month_of_the_sandbox_ends_in_the_invoices_we_said(sandbox: Sandbox) -> None:
    said = sandbox.demo.post("/do/hundred", {})["said"]
    assert said.startswith("100 events sent: 100 accepted, in ")
    assert "100 duplicates, in" in sandbox.demo.post("/do/again", {})["said"]
    assert "1 event sent: 1 accepted" in sandbox.demo.post("/do/late", {})["said"]

    used = sandbox.demo.post("/app/use/calls", {})
    assert used["said"].startswith("1,000 calls accepted in ")
    assert sandbox.demo.post("/app/use/days", {})["events"] >= 0
    _widget_opens_once(sandbox)

    eventually(lambda: _agree(sandbox), "Stripe's totals equal ours", 40)
    shown = sandbox.demo.get("/state")
    assert all(line["missing"] == "0" for each in shown["customers"] for line in each["lines"])

    # The clock waits for what is on its way: pressed at once, the button makes nothing late.
    sandbox.demo.post("/do/burst", {})
    assert sandbox.demo.post("/do/hour", {})["said"].endswith("for both of them.")
    assert _agree(sandbox)

    expected = sandbox.projections()
    for ends_at in sorted({_unix(each["periodEnd"]) for each in expected.values()}):
        ended = {ref: e for ref, e in expected.items() if _unix(e["periodEnd"]) == ends_at}
        for ref, invoice in _final_invoices(sandbox, set(ended), ends_at).items():
            _compare(sandbox, ref, ended[ref], invoice)
    bills = [each for one in sandbox.demo.get("/state")["customers"] for each in one["invoices"]]
    assert len(bills) >= len(CUSTOMERS)
    assert all(Decimal(each["ours"]) == Decimal(each["total"]) for each in bills), bills
    _what_is_too_late_waits(sandbox)


def _what_is_too_late_waits(sandbox: Sandbox) -> None:
    """It is set aside and proposed, and becomes usage of the current period by one decision."""
    sent = "It is set aside, and its adjustment waits for a decision."
    said = eventually(
        lambda: (told := sandbox.demo.post("/do/too_late", {})["said"]).endswith(sent) and told,
        "a period has closed",
        20,
    )
    assert "1 event sent: 1 accepted" in said

    def waiting() -> list[Any]:
        found = sandbox.web.get("/v1/adjustments", tenantId=TENANT, status="pending")
        return [each for each in found["adjustments"] if each["origin"] == "set_aside"]

    [late] = eventually(waiting, "it is proposed", 10)
    path = f"/v1/adjustments/{late['id']}/approve"
    done = sandbox.web.post(path, {"tenantId": TENANT, "disposition": "carry_forward"})
    assert (done["status"], done["periodState"]) == ("approved", "closed")
    now = sandbox.comparison.projection(late["customerRef"])
    assert [line["quantity"] for line in now["lineItems"] if line["metric"] == late["metric"]] == [
        late["quantity"]
    ]
    eventually(lambda: _agree(sandbox), "Stripe has it in the current period", 40)


def _widget_opens_once(sandbox: Sandbox) -> None:
    """As the customer's browser: a token of the host's backend, an address for it, and a frame."""
    page = sandbox.demo.base.replace("127.0.0.1", "localhost")
    token = sandbox.demo.post("/widget-token", {})["token"]
    opened = http.Api(sandbox.web.base, {"Origin": page}).post(
        "/v1/widget/frames", {"token": token}
    )
    elsewhere = http.Api(sandbox.web.base, {"Origin": "https://elsewhere.example"})
    with pytest.raises(http.RefusedError, match="403"):
        elsewhere.post("/v1/widget/frames", {"token": token})
    status, document = _opened(sandbox, opened["frameUrl"])
    assert status == 200
    assert "API calls" in document
    assert _opened(sandbox, opened["frameUrl"])[0] == 401


def _opened(sandbox: Sandbox, path: str) -> tuple[int, str]:
    connection = HTTPConnection(sandbox.web.base.removeprefix("http://"), timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def _agree(sandbox: Sandbox) -> bool:
    """True once all that was sent is counted here and has arrived there."""
    projections = sandbox.projections()
    lines = [
        line for ref, each in projections.items() for line in sandbox.comparison.lines(ref, each)
    ]
    total = sum(line.ours for line in lines)
    settled = not any(each["unfolded"] for each in projections.values())
    return settled and total > 0 and all(line.ours == line.stripes for line in lines)


def _final_invoices(sandbox: Sandbox, refs: set[str], ends_at: int) -> dict[str, Any]:
    """Move the clock past the end of these customers' period; their invoices by ref."""
    sandbox.advance_to(ends_at)
    eventually(lambda: _invoices(sandbox, refs), "the invoices are drafted", 10)
    sandbox.advance_to(ends_at + 2 * 3600)
    found = eventually(lambda: _invoices(sandbox, refs, final=True), "they are final", 10)
    return dict(found)


def _invoices(sandbox: Sandbox, refs: set[str], *, final: bool = False) -> dict[str, Any] | None:
    """The last invoice of each of these customers by ref, once all of them have one of use."""
    known, found = sandbox.refs(), {}
    for invoice in listed(sandbox.stripe, "/v1/invoices"):
        ref = known[invoice["customer"]]
        if invoice["billing_reason"] == "subscription_cycle" and ref in refs:
            found.setdefault(ref, invoice)
    drafts = any(each["status"] == "draft" for each in found.values())
    return found if set(found) == refs and not (final and drafts) else None


def _compare(sandbox: Sandbox, ref: str, before: Any, invoice: Any) -> None:
    """Our projection of the period that has ended, and the invoice: quantities and amounts."""
    ours = sandbox.web.post(
        "/v1/usage/projection",
        {
            "tenantId": TENANT,
            "customerRef": ref,
            "periodStart": before["periodStart"],
            "periodEnd": before["periodEnd"],
        },
    )
    assert ours["totalMinor"] == invoice["total"]
    amounts: dict[str, int] = defaultdict(int)
    quantities: dict[str, Decimal] = defaultdict(Decimal)
    metric_of = {
        each["id"]: each["lookup_key"].removeprefix("demo_")
        for each in listed(sandbox.stripe, "/v1/prices")
    }
    for line in listed(sandbox.stripe, f"/v1/invoices/{invoice['id']}/lines"):
        metric = metric_of[line["pricing"]["price_details"]["price"]]
        amounts[metric] += line["amount"]
        quantities[metric] += Decimal(line["quantity_decimal"])
    for line in ours["lineItems"]:
        assert line["totalMinor"] == amounts[line["metric"]], (ref, line)
        if line["metric"] != "storage_gb":  # by the package
            assert Decimal(line["quantity"]) == quantities[line["metric"]], (ref, line)


def _unix(instant: str) -> int:
    return int(datetime.fromisoformat(instant).timestamp())
