"""Makes the pictures in docs/images from a running sandbox: `make dev`, then in another terminal
`.venv/bin/python docs/screenshots.py [name …]`, by default all of them.

A fresh sandbox (`STRIPEMETER_HOME` of its own) gives the pictures that are there. The last ones
move its clock by a month, which cannot be taken back. A page is added by a function that leads to
it, and a line in `PICTURES`.
"""

import json
import os
import random
import sys
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from playwright.sync_api import Frame, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.browser import chromium
from tests.browser.conftest import ARGUMENTS

PORT = int(os.environ.get("PORT", "3000"))
ADDRESS = f"http://localhost:{PORT}"
# Where they are if the next ports were free; the banner of `make dev` says it.
STAND_IN = os.environ.get("STAND_IN", f"http://localhost:{PORT + 1}")
DEMO = os.environ.get("DEMO", f"http://localhost:{PORT + 2}")
IMAGES = Path(__file__).parent / "images"
TODAY = (
    "a-name=Today&a-model=graduated"
    "&a-0-to=10000&a-0-unit=0.01&a-1-to=50000&a-1-unit=0.008&a-2-unit=0.005"
)
NEW = "b-name=Volume+2027&b-model=volume&b-0-to=20000&b-0-unit=0.009&b-1-unit=0.006"
FEE = "c-name=All+inclusive&c-model=flat&c-fee=413"
# Not the demo's tenant: its customers are those that the stand-in bills.
TENANT, CUSTOMERS, MONTHS = "acme", 200, 3


def call_for(path: str) -> Any:
    with urllib.request.urlopen(ADDRESS + path, timeout=30) as answer:
        return json.load(answer)


def put(path: str, body: dict[str, Any]) -> Any:
    return call(path, body, method="PUT")


def call(path: str, body: dict[str, Any], *, method: str = "POST") -> Any:
    request = urllib.request.Request(
        ADDRESS + path,
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
        method=method,
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
    """Three months of API calls of 200 customers, a few of them large; the same at every run, for
    its events have keys of their own and count once."""
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
                        "tenantId": TENANT,
                        "metric": "api_calls",
                        "customerRef": f"cus_demo_{number:03}",
                        "quantity": quantity,
                        "ts": (month + timedelta(days=7 * week)).isoformat(),
                        "idempotencyKey": key,
                    }
                )
    for at in range(0, len(events), 1000):
        call("/v1/events/ingest", {"events": events[at : at + 1000]})


def front(page: Page) -> None:
    page.goto(ADDRESS)


def simulator(page: Page) -> None:
    page.goto(f"{ADDRESS}/simulator?tenantId={TENANT}")


def comparison(page: Page) -> None:
    page.goto(
        f"{ADDRESS}/simulator?tenantId={TENANT}&currency=usd&quantity=60000&{TODAY}&{NEW}&{FEE}"
    )


def backtest(page: Page) -> None:
    """Ask what the last months would have cost under the new price, and wait for the answer."""
    send_usage()
    button = page.get_by_role("button", name="Try on real usage")
    for _ in range(30):  # until it is counted
        page.goto(f"{ADDRESS}/simulator/backtest?tenantId={TENANT}&currency=usd&{TODAY}&{NEW}")
        settle(page)
        if button.is_visible():
            break
    button.click()
    page.wait_for_selector("text=most affected", timeout=60_000)


def inside(page: Page) -> Frame:
    """The widget's frame, once it shows numbers of which none is still being counted."""
    for _ in range(100):
        for frame in page.frames:
            if frame.url.startswith(f"{ADDRESS}/widget/f/") and frame.query_selector("#usage > *"):
                said = frame.inner_text("#widget")
                if "being counted" not in said and "Loading" not in said:
                    return frame
        page.wait_for_timeout(200)
    sys.exit("The widget did not open.")


def nimbus(page: Page) -> None:
    """Use the made-up product, and wait until the widget shows it."""
    page.goto(f"{DEMO}/app?theme=light")
    for use in ("days", "calls"):
        page.click(f"[data-use={use}]")
        page.wait_for_selector("#said:has-text('accepted')", timeout=30_000)
    page.wait_for_timeout(5_000)
    inside(page)


def widget(looks: str) -> Callable[[Page], None]:
    """looks: of the widget in Nimbus, as its page has them in its address."""

    def lead(page: Page) -> None:
        page.goto(f"{DEMO}/app?{looks}")
        inside(page)

    return lead


def unreachable(page: Page) -> None:
    """The server does not answer a widget that is open; `take` lets the page out again."""
    widget("theme=light")(page)
    page.context.set_offline(True)
    for _ in range(100):
        if "Reconnecting" in inside(page).inner_text("#widget"):
            return
        page.wait_for_timeout(200)
    sys.exit("The widget does not say that it cannot reach the server.")


def demo(page: Page) -> None:
    """Send a burst, and wait until Stripe's totals are ours."""
    page.goto(DEMO)
    for button in ("hundred", "burst"):
        page.click(f"[data-do={button}]")
        page.wait_for_selector("#said:has-text('accepted')", timeout=30_000)
    page.wait_for_timeout(3_000)
    page.wait_for_selector("#headline:has-text('totals equal ours')", timeout=90_000)


def stuck(page: Page) -> None:
    """Two customers of whom nobody has said who they are in Stripe, in the console."""
    now = datetime.now(UTC).isoformat()
    strangers = (("juniper", "api_calls", 12_345), ("kestrel", "storage_gb", 700))
    events = [
        {
            "tenantId": "demo", "metric": metric, "customerRef": ref, "quantity": quantity,
            "ts": now, "idempotencyKey": f"picture-{ref}",
        }
        for ref, metric, quantity in strangers
    ]  # fmt: skip
    call("/v1/events/ingest", {"events": events})
    for _ in range(30):
        page.goto(f"{ADDRESS}/console/stripe")
        if page.get_by_text("2 customers need a decision").first.is_visible():
            return
        page.wait_for_timeout(1_000)


def late_usage() -> None:
    """A cautious metric of four customers, whose last events come days too late; the same at every
    run of a day. Not the demo's tenant, either."""
    now = datetime.now(UTC)
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    put("/v1/metrics/exports", {"tenantId": "globex", "displayName": "Exports", "unit": "exports",
                                "latePolicy": "age", "latenessSeconds": 86_400})  # fmt: skip
    price = {"model": "per_unit", "currency": "usd", "unitPrice": "0.12"}
    if not call_for("/v1/mappings?tenantId=globex")["mappings"]:
        call("/v1/mappings", {"tenantId": "globex", "metric": "exports", "priceConfig": price,
                              "effectiveFrom": first.isoformat()})  # fmt: skip
    events = []
    for ref, quantity in (("hooli", 410), ("initech", 75), ("umbrella", 1_240), ("vandelay", 33)):
        for day, back in (("late", timedelta(days=2, hours=3)), ("today", timedelta(minutes=5))):
            at = max(now - back, first)
            events.append(
                {
                    "tenantId": "globex", "metric": "exports", "customerRef": ref,
                    "quantity": quantity, "ts": at.isoformat(),
                    "idempotencyKey": f"{day}-{ref}-{now:%Y-%m-%d}",
                }
            )  # fmt: skip
    call("/v1/events/ingest", {"events": events})
    call("/v1/adjustments", {"tenantId": "globex", "customerRef": "initech", "metric": "exports",
                             "delta": "-20", "reason": "credit",
                             "note": "An export failed and was repeated."})  # fmt: skip


def adjustments(page: Page) -> None:
    late_usage()
    for _ in range(30):
        page.goto(f"{ADDRESS}/console/adjustments?tenantId=globex")
        if page.get_by_text("decisions wait").first.is_visible():
            return
        page.wait_for_timeout(1_000)


def adjustment(page: Page) -> None:
    """The largest of them, before it is decided."""
    page.goto(f"{ADDRESS}/console/adjustments?tenantId=globex&customerRef=umbrella")
    page.locator("tbody a").first.click()


def walk(page: Page) -> None:
    """Why an event is not on the bill."""
    key = f"late-umbrella-{datetime.now(UTC):%Y-%m-%d}"
    page.goto(f"{ADDRESS}/console/events/walk?tenantId=globex&id={key}")


def shadow(page: Page) -> None:
    page.goto(f"{ADDRESS}/console/stripe/shadow")


def stand_in(page: Page) -> None:
    page.goto(STAND_IN)
    page.wait_for_selector(".good >> nth=0", timeout=30_000)


def month_over(page: Page) -> None:
    """Let the month end and its invoices become final."""
    page.goto(DEMO)
    page.click("[data-do=month]")
    page.wait_for_selector("text=/draft, final an hour/", timeout=60_000)
    for _ in range(2):
        page.click("[data-do=hour]")
        page.wait_for_selector("#said:has-text('It is now')", timeout=30_000)
    page.wait_for_selector("text=/final and paid/", timeout=60_000)
    page.wait_for_timeout(4_000)


def invoices(page: Page) -> None:
    page.goto(STAND_IN)
    page.wait_for_selector(".invoices article", timeout=30_000)


class Picture(NamedTuple):
    """lead: brings the page to what is shown.  part: a selector of it; None: the whole page."""

    name: str
    lead: Callable[[Page], None]
    part: str | None = None


PICTURES = (
    Picture("sandbox", front),
    Picture("simulator", simulator),
    Picture("comparison", comparison),
    Picture("backtest", backtest),
    Picture("nimbus", nimbus),
    Picture("widget-light", widget("theme=light"), ".shown"),
    Picture("widget-dark", widget("theme=dark"), ".shown"),
    Picture("widget-compact", widget("theme=light&compact=1"), ".shown"),
    Picture("widget-320", widget("theme=light&narrow=1"), ".shown"),
    Picture("widget-rtl", widget("theme=light&locale=ar"), ".shown"),
    Picture("widget-unreachable", unreachable, ".shown"),
    Picture("demo", demo),
    # What the console shows of Stripe is of the month that is not over yet.
    Picture("console-stripe", stuck),
    Picture("shadow", shadow),
    Picture("adjustments", adjustments),
    Picture("adjustment", adjustment),
    Picture("walk", walk),
    Picture("stand-in", stand_in, "#held section > table >> nth=0"),
    # From here on the clock is a month ahead.
    Picture("month-over", month_over),
    Picture("invoices", invoices, ".invoices"),
)


def settle(page: Page) -> None:
    # The demo and the stand-in ask again and again: their network is never idle.
    page.wait_for_load_state("load" if page.url.startswith((DEMO, STAND_IN)) else "networkidle")
    page.wait_for_timeout(400)


def take(page: Page, picture: Picture) -> None:
    picture.lead(page)
    settle(page)
    path = IMAGES / f"{picture.name}.png"
    if picture.part is None:
        page.screenshot(path=path, full_page=True)
    else:
        page.locator(picture.part).screenshot(path=path)
    page.context.set_offline(False)
    print(f"docs/images/{picture.name}.png")


def main(names: list[str]) -> None:
    unknown = set(names) - {picture.name for picture in PICTURES}
    if unknown:
        sys.exit(f"There is no picture {', '.join(sorted(unknown))}.")
    path = chromium.found()
    if path is None:
        sys.exit(chromium.MISSING)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        for picture in PICTURES:
            if not names or picture.name in names:
                take(page, picture)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:])
