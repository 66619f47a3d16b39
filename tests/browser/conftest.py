"""A real browser in front of the real app, on a loopback port."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from flask import Flask
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from sqlalchemy.orm import Session
from werkzeug.serving import make_server

from metering.database import unit_of_work
from metering.tenancy import console
from tests.browser import chromium
from tests.browser.embedded import embedded as embedded
from webapp import create_app
from webapp.config import Config
from webapp.extensions import db

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium or Chrome, found or fetched; it fails loudly where there is none."""
    path = chromium.found() or chromium.installed()
    if path is None:
        pytest.fail(chromium.MISSING)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield started
        started.close()


def serve(app: Flask) -> Iterator[str]:
    """Answer on a loopback port until the end. Yields: the address."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
    with app.app_context():
        db.engine.dispose()


@pytest.fixture(scope="session")
def sandbox_address(config: Config) -> Iterator[str]:
    """Where the sandbox answers: open to this machine without a key."""
    yield from serve(create_app(config))


@pytest.fixture(scope="session")
def address(config: Config) -> Iterator[str]:
    """Where the app answers as production runs it."""
    yield from serve(create_app(replace(config, sandbox=False)))


@dataclass
class Tab:
    """A page of a browser of its own, and what its console complained about."""

    page: Page
    complaints: list[str] = field(default_factory=list)


class Tabs:
    """Opens pages; at the end none may have complained, about the CSP or anything else."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self.tabs: list[Tab] = []
        # What is said where a test takes a server or a right away: parts of complaints.
        self.forgives: tuple[str, ...] = ()

    def open(self, **settings: Any) -> Page:
        context = self._browser.new_context(
            **{"viewport": {"width": 1280, "height": 900}} | settings
        )
        context.set_default_timeout(15_000)
        self._contexts.append(context)
        tab = Tab(context.new_page())
        tab.page.on("console", lambda said: self._note(tab, said.type, said.text))
        tab.page.on("pageerror", lambda error: tab.complaints.append(str(error)))
        self.tabs.append(tab)
        return tab.page

    def _note(self, tab: Tab, kind: str, text: str) -> None:
        # A refusal that the page shows is reported by the browser as well: that is no fault.
        forgiven = any(part in text for part in ("status of 4", *self.forgives))
        if kind in ("error", "warning") and not forgiven:
            tab.complaints.append(text)

    def close(self) -> None:
        for context in self._contexts:
            context.close()


@pytest.fixture
def tabs(browser: Browser) -> Iterator[Tabs]:
    opened = Tabs(browser)
    yield opened
    opened.close()
    complaints = [complaint for tab in opened.tabs for complaint in tab.complaints]
    assert complaints == []


@pytest.fixture
def page(tabs: Tabs) -> Page:
    """A page in a window of its own."""
    return tabs.open()


@pytest.fixture
def sign_in(session: Session, address: str) -> Any:
    """Sign a page in to a tenant with a role, as people are: by a one-time link and a button."""

    def enter(page: Page, tenant: str, role: str, *, now: datetime) -> None:
        with unit_of_work(session):
            token = console.make_link(session, tenant, role, now=now)
        page.goto(f"{address}/console/enter?token={token}")
        page.get_by_role("button").click()
        page.wait_for_url(f"{address}/console")

    return enter


LOOKS = [(width, scheme) for width in (1280, 320) for scheme in ("light", "dark")]


def faults(tabs: Tabs, url: str, *, looks: Any = LOOKS) -> list[str]:
    """What is wrong with a page in any of these (width, colour scheme): what axe-core finds, and
    that it is wider than its window. axe's script is let past the CSP; nothing else is."""
    page = tabs.open(bypass_csp=True)
    page.goto(url)
    page.wait_for_load_state("networkidle")
    wrong = []
    for width, scheme in looks:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page).response["violations"]
        wrong += [
            f"{width} {scheme}: {each['id']}: {each['help']}"
            f" ({[node['target'] for node in each['nodes']][:3]})"
            for each in found
        ]
        if overflow(page) > 0:
            wrong.append(f"{width} {scheme}: {overflow(page)} pixels too wide")
    page.close()
    return wrong


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))
