"""A server on loopback that answers what it is told to and remembers what it was asked."""

import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Answer:
    """body: sent as JSON, or as it is.  hangs: seconds before it.  drops: no answer at all."""

    status: int = 200
    body: object = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    hangs: float = 0.0
    drops: bool = False


@dataclass(frozen=True)
class Asked:
    """One request as it came over the wire. connection: the peer's port."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    connection: int


class Script:
    """Answers in turn; the last one for ever."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[Asked] = []
        self._answers: list[Answer] = []

    def answers(self, *answers: Answer) -> None:
        self._answers = list(answers)

    def next(self) -> Answer:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def error(status: int, message: str, *, headers: Any = None, **members: Any) -> Answer:
    """An error of Stripe's shape."""
    told = {"type": "invalid_request_error", "message": message, **members}
    return Answer(status, {"error": told}, headers or {})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "_Server"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        port = self.client_address[1]
        self.server.script.asked.append(Asked(self.command, self.path, headers, body, port))
        answer = self.server.script.next()
        time.sleep(answer.hangs)
        if answer.drops:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        sent = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, format: str, *args: Any) -> None:
        pass


for verb in ("GET", "POST"):
    setattr(_Handler, f"do_{verb}", _Handler.answer)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    script: Script

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that have gone are no errors here."""


@contextmanager
def serving() -> Iterator[Script]:
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.script = script = Script(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield script
        server.shutdown()
        thread.join()
