"""Makes the pictures in docs/images from a running sandbox: `make dev`, then in another terminal
`.venv/bin/python docs/screenshots.py`. Sends a year of made-up demo usage first.

The usage is the same at every run: its events have keys of their own and count once.
"""

import json
import os
import random
import sys
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.browser import chromium
from tests.browser.conftest import ARGUMENTS

ADDRESS = f"http://localhost:{os.environ.get('PORT', '3000')}"
IMAGES = Path(__file__).parent / "images"
TODAY = (
    "a-name=Today&a-model=graduated"
    "&a-0-to=10000&a-0-unit=0.01&a-1-to=50000&a-1-unit=0.008&a-2-unit=0.005"
)
NEW = "b-name=Volume+2027&b-model=volume&b-0-to=20000&b-0-unit=0.009&b-1-unit=0.006"
FEE = "c-name=All+inclusive&c-model=flat&c-fee=413"
CUSTOMERS, MONTHS = 200, 3


def call(path: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        ADDRESS + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def months() -> list[datetime]:
    """The last whole months, the oldest first."""
    first = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    found = []
    for _ in range(MONTHS):
        first = (first - timedelta(days=1)).replace(day=1)
        found.insert(0, first)
    return found


def send_usage() -> None:
    """Three months of API calls of 200 customers, a few of them large."""
    chance = random.Random(7)
    events = []
    for number in range(CUSTOMERS):
        typical = chance.lognormvariate(9.6, 1.1)
        for month in months():
            for week in range(4):
                quantity = max(1, int(typical / 4 * chance.uniform(0.6, 1.4)))
                key = f"demo-{number}-{month:%Y-%m}-{week}"
                events.append(
                    {
                        "tenantId": "demo",
                        "metric": "api_calls",
                        "customerRef": f"cus_demo_{number:03}",
                        "quantity": quantity,
                        "ts": (month + timedelta(days=7 * week)).isoformat(),
                        "idempotencyKey": key,
                    }
                )
    for at in range(0, len(events), 1000):
        call("/v1/events/ingest", {"events": events[at : at + 1000]})


def settle(page: Page) -> None:
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(400)


def take(page: Page, name: str) -> None:
    settle(page)
    page.screenshot(path=IMAGES / f"{name}.png", full_page=True)
    print(f"docs/images/{name}.png")


def backtest(page: Page) -> None:
    """Ask what the last months would have cost under the new price, and wait for the answer."""
    page.goto(f"{ADDRESS}/simulator/backtest?tenantId=demo&currency=usd&{TODAY}&{NEW}")
    settle(page)
    page.get_by_role("button", name="Try on real usage").click()
    page.wait_for_selector("text=most affected", timeout=60_000)


def main() -> None:
    send_usage()
    path = chromium.found()
    if path is None:
        sys.exit(chromium.MISSING)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{ADDRESS}/simulator?tenantId=demo")
        take(page, "simulator")
        page.goto(
            f"{ADDRESS}/simulator?tenantId=demo&currency=usd&quantity=60000&{TODAY}&{NEW}&{FEE}"
        )
        take(page, "comparison")
        backtest(page)
        take(page, "backtest")
        browser.close()


if __name__ == "__main__":
    main()
