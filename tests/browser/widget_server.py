"""A stand-in for what the widget's scripts talk to, and a page that embeds them, on two ports.

It knows nothing of usage: it answers as the real one does, fails as it is told to, and remembers
what it was asked.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from string import Template
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

STATIC = Path(__file__).parents[2] / "webapp" / "static"
FRAME = Template((Path(__file__).parent / "widget_frame.html").read_text("utf-8"))
SPENT = (
    '<!doctype html><html lang="en"><head><title>Opened already</title>'
    '<script defer src="/static/widget-frame.js"></script></head>'
    "<body>Opened already.</body></html>"
)
DAYS = (1, 2, 3)
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none';"
    " frame-ancestors {origin}"
)


@dataclass
class Asked:
    """One request, as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    at: float


@dataclass
class Given:
    """One answer, as it goes."""

    status: int
    body: str = ""
    kind: str = "text/html; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)


def _problem(status: int, detail: str) -> Given:
    return Given(
        status, json.dumps({"status": status, "detail": detail}), "application/problem+json"
    )


def _rect(day: int) -> str:
    """The days of a chart that runs from right to left."""
    return f"<rect x='{90 - 20 * day}' width='18' height='30'/>"


@dataclass
class Meter:
    """Tokens, codes and sessions, and one number for each customer."""

    address: str = ""
    customers: dict[str, str] = field(default_factory=lambda: {"smw_1": "Ada", "smw_2": "Grace"})
    origins: list[str] | None = None
    life: int = 900
    age: float = 3
    extra: str = ""
    number: int = 100
    step: int = 0
    down: bool = False
    hanging: threading.Event = field(default_factory=threading.Event)
    hung: list[str] = field(default_factory=list)
    failing: dict[str, Given] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    most_at_once: int = 0
    _codes: dict[str, tuple[str, str]] = field(default_factory=dict)
    _sessions: dict[str, str] = field(default_factory=dict)
    _names: Iterator[int] = field(default_factory=lambda: count(1))
    _polling: int = 0

    def of(self, path: str) -> list[Asked]:
        """What was asked for at this path."""
        return [each for each in self.asked if urlsplit(each.path).path.startswith(path)]

    def usage(self, customer: str) -> str:
        return (
            f"<p><strong id='number'>{customer}: {self.number}</strong></p>"
            f"<details><summary>How it is reckoned</summary><p>So.</p></details>"
            "<svg data-roving>"
            + "".join(f"<g id='day-{day}' tabindex='{-(day < 3)}'>{_rect(day)}</g>" for day in DAYS)
            + f"</svg><button id='tier'>A tier</button>{self.extra}"
        )

    def answer(self, asked: Asked) -> Given:
        path = urlsplit(asked.path).path
        if path in self.failing and asked.method != "OPTIONS":
            return self.failing[path]
        if path == "/widget.js" or path.startswith("/static/"):
            return self._file(path)
        if path == "/v1/widget/frames":
            return self._exchange(asked)
        if path.startswith("/widget/f/"):
            return self._frame(path.rsplit("/", 1)[1])
        if path == "/widget/session":
            return self._renew(asked.body["code"])
        token = self._sessions.get(asked.headers.get("x-widget-session", ""))
        customer = self.customers.get(token or "")
        if customer is None:
            return _problem(401, "This widget's session has ended.")
        if path == "/widget/activity":
            return Given(200, f"<ol><li>{customer} used 1, of {self.number}</li></ol>")
        if path == "/widget/statement":
            name = {"Content-Disposition": 'attachment; filename="statement-nov.csv"'}
            return Given(200, f"customer,number\n{customer},{self.number}\n", "text/csv", name)
        return self._poll(asked, customer)

    def _file(self, path: str) -> Given:
        if path == "/static/frame.css":
            return Given(200, "body { margin: 0; } [hidden] { display: none; }", "text/css")
        name = "widget.js" if path == "/widget.js" else path.removeprefix("/static/")
        return Given(200, (STATIC / name).read_text("utf-8"), "text/javascript")

    def _exchange(self, asked: Asked) -> Given:
        origin = asked.headers.get("origin", "")
        open_to = {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": "POST",
            "Access-Control-Allow-Headers": "Content-Type",
        }
        if asked.method == "OPTIONS":
            return Given(204, headers=open_to)
        token = asked.body.get("token") or f"smw_of_{asked.body['customerRef']}"
        if "customerRef" in asked.body:
            self.customers[token] = asked.body["customerRef"]
        if token not in self.customers:
            given = _problem(401, "This widget token is unknown, has expired or was revoked.")
        elif self.origins is not None and origin not in self.origins:
            given = _problem(403, f"this token is not for pages of {origin}")
        else:
            code = f"code-{next(self._names)}"
            self._codes[code] = (token, origin)
            answer = {"frameUrl": f"/widget/f/{code}", "code": code, "expiresInSeconds": self.life}
            given = Given(201, json.dumps(answer), "application/json")
        given.headers |= open_to
        return given

    def _spend(self, code: str) -> tuple[str, str, str] | None:
        token, origin = self._codes.pop(code, ("", ""))
        if token not in self.customers:
            return None
        secret = f"secret-{next(self._names)}"
        self._sessions[secret] = token
        return secret, self.customers[token], origin

    def _frame(self, code: str) -> Given:
        spent = self._spend(code)
        if spent is None:
            return Given(401, SPENT, headers={"Content-Security-Policy": POLICY.format(origin="*")})
        secret, customer, origin = spent
        page = FRAME.substitute(
            secret=secret,
            origin=origin,
            life=self.life,
            etag=self._etag(customer),
            age=self.age,
            usage=self.usage(customer),
        )
        headers = {"Content-Security-Policy": POLICY.format(origin=origin)}
        return Given(200, page, headers=headers | {"Referrer-Policy": "no-referrer"})

    def _renew(self, code: str) -> Given:
        spent = self._spend(code)
        if spent is None:
            return _problem(401, "This widget was opened already, or too late.")
        answer = json.dumps({"session": spent[0], "expiresInSeconds": self.life})
        return Given(200, answer, "application/json")

    def _etag(self, customer: str) -> str:
        # What stands behind the hyphen is the time.
        return f'"{customer}.{self.number}-{self.step}"'

    def _poll(self, asked: Asked, customer: str) -> Given:
        headers = {"ETag": self._etag(customer), "X-Widget-As-Of-Age": str(self.age)}
        if asked.headers.get("if-none-match") == headers["ETag"]:
            return Given(304, headers=headers)
        return Given(200, self.usage(customer), headers=headers)

    def hold(self, path: str) -> None:
        """Wait where the path hangs, and count who is under way."""
        self._polling += path == "/widget/usage"
        self.most_at_once = max(self.most_at_once, self._polling)
        if path in self.hung:
            self.hanging.wait(60)

    def done(self, path: str) -> None:
        self._polling -= path == "/widget/usage"


@dataclass
class Host:
    """The page that embeds: its script is the test's, its policy the strictest that works."""

    meter: Meter
    address: str = ""
    script: str = ""
    head: str = (
        '<script defer src="{meter}/widget.js"></script><script defer src="/page.js"></script>'
    )
    body: str = '<h1>Host</h1><div id="usage-widget"></div>'
    style: str = ""
    token_status: int = 200
    tokens: list[str] = field(default_factory=lambda: ["smw_1"])
    asked: list[Asked] = field(default_factory=list)

    @property
    def tokens_asked(self) -> int:
        return sum(each.path == "/token" for each in self.asked)

    def answer(self, asked: Asked) -> Given:
        if asked.path == "/page.js":
            return Given(200, self.script, "text/javascript")
        if asked.path == "/page.css":
            return Given(200, self.style, "text/css")
        if asked.path == "/token":
            token = self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]
            return Given(self.token_status, token, "text/plain")
        if asked.path != "/":
            return Given(204)
        meter = self.meter.address
        policy = (
            f"default-src 'none'; script-src 'self' {meter}; connect-src 'self' {meter};"
            f" frame-src {meter}; style-src 'self'; base-uri 'none'"
        )
        page = (
            "<!doctype html><html lang='en'><head><title>Host</title>"
            f"<link rel='stylesheet' href='/page.css'>{self.head.format(meter=meter)}"
            f"</head><body>{self.body}</body></html>"
        )
        return Given(200, page, headers={"Content-Security-Policy": policy})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Meter | Host

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(
            self.command, self.path, headers, json.loads(body) if body else None, monotonic()
        )
        self.site.asked.append(asked)
        path = urlsplit(self.path).path
        meter = self.site if isinstance(self.site, Meter) else None
        if meter is not None and meter.down:
            self.close_connection = True
            return
        if meter is not None:
            meter.hold(path)
        try:
            self._send(self.site.answer(asked))
        except OSError:
            self.close_connection = True
        finally:
            if meter is not None:
                meter.done(path)

    def _send(self, given: Given) -> None:
        content = given.body.encode()
        self.send_response(given.status)
        for name, value in given.headers.items():
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Type", given.kind)
        if given.status not in (204, 304):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if given.status not in (204, 304):
            self.wfile.write(content)

    do_GET = do_POST = do_OPTIONS = _serve  # noqa: N815 (the names are http.server's)

    def log_message(self, *_: Any) -> None:
        """Silence."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True


@contextmanager
def _serving(site: Meter | Host) -> Iterator[str]:
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": site}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def both() -> Iterator[tuple[Meter, Host]]:
    """Serve both, until the end."""
    meter = Meter()
    host = Host(meter)
    with _serving(meter) as meter.address, _serving(host) as host.address:
        yield meter, host
        meter.hanging.set()


def until(held: Callable[[], bool], seconds: float = 15) -> bool:
    """Whether it came to hold within these seconds."""
    end = monotonic() + seconds
    while not held():
        if monotonic() > end:
            return False
        threading.Event().wait(0.01)
    return True
