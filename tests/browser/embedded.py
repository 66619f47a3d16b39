"""A page with a widget in front of a server that fails as it is told to."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Error, Frame, Page, Request, Response

from tests.browser.widget_host import PEEK
from tests.browser.widget_server import Host, Meter, both, until

if TYPE_CHECKING:
    from tests.browser.conftest import Tabs

START = "window.widget = StripeMeterWidget.initStripeMeterWidget('usage-widget', {options});"
RENEWING = (
    "{getToken: async () => {"
    " const answer = await fetch('/token');"
    " if (!answer.ok) { throw new Error('the backend said ' + answer.status); }"
    " return answer.text(); }}"
)
STATE = "document.documentElement.dataset.state"
# What the clock says, also where a test has set it back.
UNBENT = "window.unbentNow = Date.now.bind(Date);"


class Embedded:
    """A page with a widget, and the two servers behind it."""

    def __init__(self, tabs: "Tabs", meter: Meter, host: Host) -> None:
        self._tabs, self.meter, self.host = tabs, meter, host
        self.page: Page
        self._asked = 0
        self._under_way: set[Request] = set()

    def open(
        self, options: str = RENEWING, *, peek: bool = True, clock: bool = False, **settings: Any
    ) -> Page:
        """Open the page. clock: its time moves when it is told to, besides going on by itself."""
        self.host.script = self.host.script or START.replace("{options}", options)
        self.page = self._tabs.open(**settings)
        if peek:
            self.page.add_init_script(PEEK)
        if clock:
            self.page.clock.install()
            self.page.add_init_script(UNBENT)
        self._watch(self.page)
        self.page.goto(self.host.address)
        return self.page

    def frame(self) -> Frame:
        """The frame, once it shows numbers."""
        assert self._comes(lambda: self._ready() is not None), self.panel().text_content()
        found = self._ready()
        assert found is not None
        return found

    def _ready(self) -> Frame | None:
        for each in self.page.frames[1:]:
            # One that did not open may be taken away while it is asked.
            with contextlib.suppress(Error):
                if "/widget/f/" in each.url and each.evaluate(STATE):
                    return each
        return None

    def _comes(self, held: Any, seconds: float = 15) -> bool:
        # The browser's messages are handled only while Playwright waits.
        def step() -> bool:
            self.page.wait_for_timeout(20)
            return bool(held())

        return until(step, seconds)

    def comes(self, held: Any) -> None:
        """It comes to hold, while the page goes on."""
        assert self._comes(held)

    def pass_time(self, seconds: int, *, step: int = 1) -> None:
        """Let the page's time run, and stand still while the servers answer. step: so many seconds
        at a time; more than one only where no frame is to open meanwhile."""
        self.page.clock.pause_at(self.page.evaluate("unbentNow()") / 1000 + step)
        self._settle()
        for _ in range(step, seconds, step):
            self.page.clock.run_for(1000 * step)
            self._settle()
        self.page.clock.resume()

    def _watch(self, page: Page) -> None:
        def begun(request: Request) -> None:
            self._asked += 1
            if urlsplit(request.url).path not in self.meter.hung:
                self._under_way.add(request)

        def refused(response: Response) -> None:
            # Its body is of no interest to the page, and then it is never finished.
            if not response.ok:
                self._under_way.discard(response.request)

        page.on("request", begun)
        page.on("response", refused)
        page.on("requestfinished", lambda request: self._under_way.discard(request))
        page.on("requestfailed", lambda request: self._under_way.discard(request))

    def _settle(self) -> None:
        """Until all that was asked is answered, but for what hangs, and nothing follows from it."""

        def step() -> bool:
            before = self._asked
            self.page.wait_for_timeout(5)
            self.page.evaluate("0")  # its thread has had its turn
            return self._asked == before and not self._under_way

        assert until(step), [each.url for each in self._under_way]

    def panel(self) -> Any:
        return self.page.locator("#usage-widget div[role=status]")

    def complaints(self) -> list[str]:
        """What the console said; it is taken as expected."""
        said = [each for tab in self._tabs.tabs for each in tab.complaints]
        for tab in self._tabs.tabs:
            tab.complaints.clear()
        return said

    def own_complaints(self) -> list[str]:
        """Those that the script made."""
        return [each for each in self.complaints() if each.startswith("StripeMeterWidget")]


@pytest.fixture
def embedded(tabs: "Tabs") -> Iterator[Embedded]:
    with both() as (meter, host):
        yield Embedded(tabs, meter, host)
        for tab in tabs.tabs:
            tab.page.close()


def polls(embedded: Embedded) -> int:
    return len(embedded.meter.of("/widget/usage"))


def exchanges(embedded: Embedded) -> int:
    return sum(each.method == "POST" for each in embedded.meter.of("/v1/widget/frames"))


def set_hidden(embedded: Embedded, hidden: bool) -> None:
    for frame in embedded.page.frames:
        frame.evaluate(
            "hidden => { Object.defineProperty(document, 'hidden', {value: hidden,"
            " configurable: true}); document.dispatchEvent(new Event('visibilitychange')); }",
            hidden,
        )
