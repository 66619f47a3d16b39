"""The load generator: raw sockets in a process of its own, requests built before the clock starts.

One loop serves all connections, each a closed loop with one request under way; what it costs is
reported, for it is taken from the two cores that the product runs on.
"""

import multiprocessing
import selectors
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from bench import events
from bench.events import Series

INGEST = "/v1/events/ingest"
PROJECTION = "/v1/usage/projection"
_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Plan:
    """What to send. seconds: after these no further request is begun; None: send all.

    customers: POST projections of these customers instead, `count` of the series times.
    expected: how every answer's body must begin.
    repeat: how often the whole series is sent, one pass after the other.
    """

    port: int
    series: Series
    connections: int
    per_body: int = events.BATCH
    seconds: float | None = None
    path: str = INGEST
    expected: tuple[bytes, ...] = (b'{"accepted":',)

    def requests(self) -> list[bytes]:
        if self.path == PROJECTION:
            made = [
                f'{{"tenantId":"{self.series.tenant}","customerRef":"{event.customer}"}}'.encode()
                for event in events.generate(self.series)
            ]
        else:
            made = events.bodies(self.series, self.per_body)
        return [self._request(body) for body in made] * len(self.expected)

    def _request(self, body: bytes) -> bytes:
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@dataclass
class Load:
    """What came of a plan. answers: (when on the monotonic clock, after how long), in seconds."""

    started: float
    per_body: int
    answers: list[tuple[float, float]] = field(default_factory=list)
    cpu_seconds: float = 0.0

    @property
    def events(self) -> int:
        return len(self.answers) * self.per_body

    @property
    def ended(self) -> float:
        return self.answers[-1][0]

    @property
    def seconds(self) -> float:
        return self.ended - self.started

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds

    def milliseconds(self, share: float) -> float:
        """The latency below which this share of the answers lies."""
        ordered = sorted(latency for _, latency in self.answers)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Client:
    """A client process that has built its requests and waits to be told to go."""

    def __init__(self, plan: Plan) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(plan, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()

    def go(self) -> None:
        self._pipe.send("go")

    def result(self) -> Load:
        """Wait for the end; RuntimeError tells of an answer that was not as expected."""
        got: Load | str = self._pipe.recv()
        self._process.join()
        if isinstance(got, str):
            raise RuntimeError(got)
        return got

    def run(self) -> Load:
        self.go()
        return self.result()


def _serve(plan: Plan, pipe: Connection) -> None:
    requests = plan.requests()
    pipe.send("ready")
    pipe.recv()
    try:
        pipe.send(_Loop(plan, requests).run())
    except (OSError, ValueError) as error:
        pipe.send(f"the load generator failed: {error}")


class _Exchange:
    """One connection and the request under way on it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.unsent = memoryview(b"")
        self.received = bytearray()
        self.length = -1
        self.begun = 0.0
        self.expected = b""

    def send(self) -> bool:
        """Send what fits; True once all is sent."""
        while self.unsent:
            try:
                self.unsent = self.unsent[self.socket.send(self.unsent) :]
            except BlockingIOError:
                return False
        return True

    def receive(self) -> bool:
        """Read what is there; True once the answer is complete."""
        piece = self.socket.recv(262_144)
        if not piece:
            raise ValueError("the server closed a connection")
        self.received += piece
        if self.length < 0:
            end = self.received.find(b"\r\n\r\n")
            if end < 0:
                return False
            head = bytes(self.received[:end]).lower()
            at = head.index(b"content-length:") + len(b"content-length:")
            self.length = end + 4 + int(head[at:].split(b"\r\n", 1)[0])
        return len(self.received) >= self.length

    def check(self) -> None:
        status, _, rest = bytes(self.received).partition(b"\r\n")
        body = rest.partition(b"\r\n\r\n")[2]
        if b" 200 " not in status or not body.startswith(self.expected):
            raise ValueError(f"an answer was {status!r} {body[:300]!r}")
        self.received.clear()
        self.length = -1


class _Loop:
    def __init__(self, plan: Plan, requests: list[bytes]) -> None:
        self.plan = plan
        self.queue: Iterator[tuple[int, bytes]] = iter(enumerate(requests))
        self.pass_size = len(requests) // len(plan.expected)
        self.exchanges = [_Exchange(plan.port) for _ in range(plan.connections)]
        self.selector = selectors.DefaultSelector()

    def run(self) -> Load:
        cpu = time.process_time()
        load = Load(time.monotonic(), self.plan.per_body)
        waiting = 0
        for exchange in self.exchanges:
            self.selector.register(exchange.socket, selectors.EVENT_READ, exchange)
            waiting += self._begin(exchange, load)
        while waiting:
            ready = self.selector.select(_TIMEOUT_SECONDS)
            if not ready:
                raise ValueError("the server has not answered for a minute")
            for key, mask in ready:
                exchange = key.data
                if mask & selectors.EVENT_WRITE:
                    self._send(exchange)
                if mask & selectors.EVENT_READ and exchange.receive():
                    now = time.monotonic()
                    load.answers.append((now, now - exchange.begun))
                    exchange.check()
                    waiting += self._begin(exchange, load) - 1
        load.cpu_seconds = time.process_time() - cpu
        for exchange in self.exchanges:
            exchange.socket.close()
        return load

    def _begin(self, exchange: _Exchange, load: Load) -> int:
        """Send the connection's next request; 1 if there was one and time for it."""
        now = time.monotonic()
        if self.plan.seconds is not None and now - load.started > self.plan.seconds:
            return 0
        number, request = next(self.queue, (0, b""))
        if not request:
            return 0
        exchange.begun = now
        exchange.unsent = memoryview(request)
        exchange.expected = self.plan.expected[number // self.pass_size]
        self._send(exchange)
        return 1

    def _send(self, exchange: _Exchange) -> None:
        wanted = selectors.EVENT_READ
        if not exchange.send():
            wanted |= selectors.EVENT_WRITE
        self.selector.modify(exchange.socket, wanted, exchange)
