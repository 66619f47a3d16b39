"""`python -m sandbox.demo.site`: the page with the buttons, and Nimbus, where a customer looks.

For this machine only.
"""

import html
import json
import signal
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from sandbox.demo import TENANT, places
from sandbox.demo.comparison import Comparison
from sandbox.demo.host import Host
from sandbox.demo.http import Api, Json, RefusedError
from sandbox.demo.plan import CUSTOMERS
from sandbox.demo.traffic import Traffic
from sandbox.stripe.control import stranger

FILES = Path(__file__).parent / "files"
# The product's own look, so that the two read as one.
SHARED = Path(__file__).resolve().parents[2] / "webapp" / "static"
LONGEST_BODY = 4096
HOUR, DAY = 3600, 86_400
# How long the clock waits for usage that is on its way, in seconds.
PATIENCE = 25.0


class Page(NamedTuple):
    type: str
    path: Path


PAGES = {
    "/": Page("text/html; charset=utf-8", FILES / "demo.html"),
    "/demo.css": Page("text/css; charset=utf-8", FILES / "demo.css"),
    "/demo.js": Page("text/javascript; charset=utf-8", FILES / "demo.js"),
    "/stripemeter.css": Page("text/css; charset=utf-8", SHARED / "stripemeter.css"),
    "/icon.svg": Page("image/svg+xml", SHARED / "icon.svg"),
    "/app": Page("text/html; charset=utf-8", FILES / "app.html"),
    "/app.css": Page("text/css; charset=utf-8", FILES / "app.css"),
    "/app.js": Page("text/javascript; charset=utf-8", FILES / "app.js"),
    "/app.svg": Page("image/svg+xml", FILES / "app.svg"),
}
# Nimbus allows what docs/widget.md asks of a host: the widget's script, its call and its frame.
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'{web};"
    " connect-src 'self'{web}; frame-src{web}; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Demo:
    """What the buttons do. Each action returns a sentence. port: where the pages are."""

    def __init__(self, web: Api, stripe: Api, port: int) -> None:
        self._web, self._stripe = web, stripe
        self.comparison = Comparison(web, stripe)
        self._traffic = Traffic(web)
        origins = [f"http://{host}:{port}" for host in ("localhost", "127.0.0.1")]
        self.host = Host(web, self.comparison.now, self.comparison.period_start, origins)
        self._moving = threading.Lock()
        self.actions: dict[str, Callable[[], str]] = {
            "hundred": lambda: self._send(100),
            "burst": lambda: self._send(5000),
            "again": self._traffic.again,
            "late": self._late,
            "too_late": self._too_late,
            "hour": lambda: self._advance({"advance_seconds": HOUR}),
            "day": lambda: self._advance({"advance_seconds": DAY}),
            "month": lambda: self._advance({"to": "month_end"}),
        }

    @property
    def web(self) -> str:
        """Where a browser finds the product."""
        return _named(self._web.base)

    def state(self) -> Json:
        """What the page shows, and where else to look."""
        links = {
            "stripe": _named(self._stripe.base),
            "web": self.web,
            "console": f"{self.web}/console",
            "events": f"{self.web}/v1/events?tenantId={TENANT}",
            "adjustments": f"{self.web}/console/adjustments?tenantId={TENANT}",
        }
        return self.comparison.shown() | {"links": links}

    def _send(self, count: int) -> str:
        return self._traffic.send(count, self.comparison.now())

    def _late(self) -> str:
        since = self.comparison.period_start(CUSTOMERS[0].ref)
        return self._traffic.late(since, self.comparison.now())

    def _too_late(self) -> str:
        closed = self.comparison.closed_period(CUSTOMERS[0].ref)
        if closed is None:
            return "No period has closed yet. Go to the next month, and on by an hour, twice."
        return self._traffic.too_late(closed)

    def _advance(self, to: Json) -> str:
        """Usage takes seconds to get to Stripe, and a clock that jumps takes no notice of them: a
        month's last usage would miss its invoice."""
        with self._moving:
            began = time.monotonic()
            while (behind := self.comparison.behind()) and time.monotonic() - began < PATIENCE:
                time.sleep(0.5)
            self._stripe.post("/_sandbox/clock", to)
            now = f"It is now {self.comparison.now():%-d %B %Y, %H:%M} UTC, for both of them."
        if not behind:
            return now
        return f"{now} {behind} of the totals had not arrived before: an invoice may lack them."


class Site(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, demo: Demo) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.demo = demo


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Site

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if self._is_stranger():
            self._say(403, {"error": "The demo is for this machine only."})
        elif path == "/state":
            self._answer(self.server.demo.state)
        elif path in PAGES:
            self._show(path)
        else:
            self._say(404, {"error": "There is no such page."})

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > LONGEST_BODY:
            self.close_connection = True
            self._say(413, {"error": "The body is too long."})
            return
        self.rfile.read(int(length))
        demo, path = self.server.demo, urlsplit(self.path).path
        action = demo.actions.get(path.removeprefix("/do/"))
        use = demo.host.uses.get(path.removeprefix("/app/use/"))
        if self._is_stranger():
            self._say(403, {"error": "The demo is for this machine only."})
        elif path == "/widget-token":
            self._answer(demo.host.token)
        elif use is not None:
            self._answer(use)
        elif action is None:
            self._say(404, {"error": "There is no such button."})
        else:
            self._answer(lambda: {"said": action()})

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the page asks every two seconds."""

    def _is_stranger(self) -> bool:
        return stranger(self.client_address[0], dict(self.headers.items())) is not None

    def _show(self, path: str) -> None:
        """A page or one of its files; Nimbus' page names the product, whose port is a choice."""
        type, file = PAGES[path]
        body, web = file.read_bytes(), ""
        if path == "/app":
            web = f" {self.server.demo.web}"
            body = body.replace(b"{{ web }}", html.escape(self.server.demo.web).encode())
        self._send(200, type, body, POLICY.format(web=web))

    def _answer(self, ask: Callable[[], Json]) -> None:
        try:
            self._say(200, ask())
        except RefusedError as error:
            self._say(502, {"error": str(error)})
        except OSError as error:
            self._say(502, {"error": f"The product or the stand-in does not answer: {error}"})

    def _say(self, status: int, said: Json) -> None:
        self._send(status, "application/json", json.dumps(said).encode())

    def _send(
        self, status: int, type: str, body: bytes, policy: str = POLICY.format(web="")
    ) -> None:
        self.send_response(status)
        given = {**HEADERS, "Content-Security-Policy": policy, "Content-Type": type}
        for name, value in given.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _named(base: str) -> str:
    """The address as the user types it: the product's door is open at `localhost`."""
    return base.replace("127.0.0.1", "localhost")


def main() -> None:
    arguments = places.parser(__doc__)
    arguments.add_argument("--port", type=int, required=True)
    given = arguments.parse_args()
    site = Site(given.port, Demo(*places.apis(given), given.port))
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    threading.Thread(target=site.serve_forever, daemon=True).start()
    ended.wait()
    site.shutdown()
    site.server_close()


if __name__ == "__main__":
    main()
