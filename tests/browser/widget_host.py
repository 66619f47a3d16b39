"""A product's page on a port of its own that embeds the widget, as a customer meets it."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# The page cannot look into the widget; the tests have to.
PEEK = """
const attach = Element.prototype.attachShadow;
Element.prototype.attachShadow = function () { return attach.call(this, { mode: "open" }); };
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>A product</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<script src="{script}"></script><script src="/page.js" defer></script></head>
<body><main><h1>A product</h1><div id="usage-widget"></div></main></body></html>
"""
# `getToken` asks this page's own backend, as it would in earnest.
_SCRIPT = """
const given = {options};
if (given.asks) {{
  delete given.asks;
  given.getToken = async () => (await (await fetch("/token", {{ method: "POST" }})).json()).token;
}}
window.widget = StripeMeterWidget.initStripeMeterWidget("usage-widget", given);
"""


class Host:
    """The page's server. `mint` makes the token that its backend hands out."""

    def __init__(self, address: str, mint: Callable[[], str]) -> None:
        self.product, self.mint = address, mint
        self.options: dict[str, Any] = {"asks": True}
        self.minted = 0
        self.address = ""
        # A page that is loaded again asks while it is still being answered, and `mint` is a test's.
        self._minting = threading.Lock()

    def policy(self) -> str:
        return (
            f"default-src 'none'; script-src 'self' {self.product}; frame-src {self.product};"
            f" connect-src 'self' {self.product}; img-src 'self'"
        )

    def answer(self, path: str) -> tuple[str, str]:
        """(type, body)"""
        if path == "/token":
            with self._minting:
                self.minted += 1
                return "application/json", json.dumps({"token": self.mint()})
        if path == "/page.js":
            return "text/javascript", _SCRIPT.format(options=json.dumps(self.options))
        return "text/html; charset=utf-8", _PAGE.format(script=f"{self.product}/widget.js")


@contextmanager
def serving(host: Host) -> Iterator[Host]:
    """Answer on a loopback port until the end."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, body = host.answer(self.path)
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Security-Policy", host.policy())
            self.end_headers()
            self.wfile.write(body.encode())

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    host.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
