"""The stand-in on a socket: HTTP/1.1 kept alive, its page, its controls, and its own time."""

import contextlib
import http.client
import logging
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from sandbox.stripe import control, deliveries, page
from sandbox.stripe.http import Answer, NoAnswer
from sandbox.stripe.world import World

TICK_SECONDS = 0.1
DELIVERY_SECONDS = 10.0
_LONGEST_BODY = 1 << 20


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    world: World

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hangs up is nothing to tell of; a mistake of ours is."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body of an answer in one packet
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > _LONGEST_BODY:
            self._send(Answer(413, {"Content-Type": "text/plain"}, b"The body is too long."))
            self.close_connection = True
            return
        body = self.rfile.read(int(length))
        try:
            self._send(self._answer(body))
        except NoAnswer as dropped:
            time.sleep(dropped.after_seconds)
            self.close_connection = True

    def _answer(self, body: bytes) -> Answer:
        world, headers = self.server.world, dict(self.headers.items())
        path = urlsplit(self.path).path
        if path == "/" or path.startswith("/_sandbox/"):
            refused = control.stranger(self.client_address[0], headers)
            if refused is not None:
                return refused
            if path == "/":
                return page.answer(world)
            asset = page.asset(path.rpartition("/")[2])
            if asset is not None:
                return asset
            return control.handle(world, self.command, path, headers, body)
        return world.handle(self.command, self.path, headers, body)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the page shows what came."""


@contextlib.contextmanager
def serving(world: World, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve the world; gives the URL. port 0: a free one."""
    server = _Server((host, port), _Handler)
    server.world = world
    ended = threading.Event()
    threads = [
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True),
        threading.Thread(target=_tick, args=(world, ended), daemon=True),
        threading.Thread(target=_deliver, args=(world, ended), daemon=True),
    ]
    for each in threads:
        each.start()
    try:
        yield f"http://{host}:{server.server_address[1]}"
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        for each in threads:
            each.join()


def _tick(world: World, ended: threading.Event) -> None:
    """Let due work happen while nobody asks."""
    while not ended.wait(TICK_SECONDS):
        try:
            world.tick()
        except Exception:
            logging.exception("The work of the clock failed; it is tried again.")


def _deliver(world: World, ended: threading.Event) -> None:
    while not ended.wait(TICK_SECONDS):
        try:
            for each in deliveries.due(world):
                deliveries.answered(world, each, post(each))
        except Exception:
            logging.exception("A delivery failed; it is tried again.")


def post(delivery: deliveries.Delivery) -> int | None:
    """Make a delivery; the status, or None where there was no answer. Redirects count as none."""
    url = urlsplit(delivery.url)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=DELIVERY_SECONDS)
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    try:
        connection.request("POST", target, delivery.body, delivery.headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
