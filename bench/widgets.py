"""Open widgets on one web process: what an unchanged look costs, and whether 500 can look at once.

The pollers are a process of their own: one keep-alive connection a widget, as a browser has, and
each looks every two seconds, the fastest that a widget ever does.
"""

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection

from playwright.sync_api import sync_playwright
from sqlalchemy.orm import Session

from bench.events import METRIC
from bench.folding import fill
from bench.reading import give_a_price
from bench.rounds import Line
from bench.setting import TENANT, Setting
from bench.stack import free_port
from metering import installation
from metering.catalog import metrics
from metering.counters import fold
from metering.database import unit_of_work
from metering.tenancy import widgets
from sandbox.programs import GUNICORN
from tests.browser import chromium

OPEN, EVERY_SECONDS = 500, 2.0
COUNTED, SERIAL = 20_000, 500
LOADS = 40
HOST = "https://app.example.com"


@dataclass(frozen=True)
class Polling:
    """seconds: how long; None: every secret once after the other, one at a time, `serial` looks."""

    port: int
    secrets: Sequence[str]
    seconds: float | None
    serial: int = SERIAL


@dataclass(frozen=True)
class Looks:
    """milliseconds: how long each unchanged look took, as the widget waits for it.

    late: looks that were due and could not begin, for the one before was not answered.
    """

    milliseconds: Sequence[float]
    late: int
    seconds: float
    whole_milliseconds: Sequence[float]

    def at(self, share: float) -> float:
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def polls(setting: Setting) -> list[Line]:
    """An unchanged look by itself, and 500 widgets at once."""
    secrets = _opened(setting)
    port = free_port()
    told = {"PORT": str(port), "WEB_CONCURRENCY": "1"}
    with setting.stack.program("widget", GUNICORN, told) as web:
        setting.stack.wait_for(port, "widget")
        alone = [_run(Polling(port, secrets, None)) for _ in range(setting.rounds)]
        seconds = 6.0 if setting.quick else 30.0
        before = sum(sum(each.cpu_times()[:2]) for each in web.children())
        together = _run(Polling(port, secrets, seconds))
        spent = sum(sum(each.cpu_times()[:2]) for each in web.children()) - before
    p95 = [each.at(0.95) for each in alone]
    return [
        Line(
            "widget_poll",
            "a widget's unchanged look, p95",
            statistics.median(p95),
            "ms",
            spread=(min(p95), max(p95)),
            details={
                "p50_ms": statistics.median(each.at(0.5) for each in alone),
                "whole_ms": statistics.median(m for e in alone for m in e.whole_milliseconds),
            },
        ),
        Line(
            "widgets_500",
            "500 widgets, a look each 2 s, one web process, p95",
            together.at(0.95),
            "ms",
            details={
                "looks_per_s": len(together.milliseconds) / together.seconds,
                "late": float(together.late),
                "p50_ms": together.at(0.5),
                "worst_ms": together.at(1.0),
                "web_cpu_share": spent / together.seconds,
            },
        ),
    ]


def paint(setting: Setting) -> Line:
    """How long until a browser that knows nothing yet shows the numbers, from the frame's address
    on."""
    path = chromium.found()
    if path is None:
        raise RuntimeError(chromium.MISSING)
    _fill(setting)
    shown = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-background-networking"]
        )
        for number in range(3 if setting.quick else LOADS):
            with Session(setting.stack.engine) as session, unit_of_work(session):
                code = _code(session, f"cus_{number:06d}")
            page = browser.new_page(viewport={"width": 560, "height": 900})
            page.goto(f"http://127.0.0.1:{setting.stack.port}/widget/f/{code}")
            shown.append(float(page.evaluate(_FIRST_PAINT)))
            page.close()
        browser.close()
    return Line(
        "widget_paint",
        "a widget's first contentful paint, nothing cached, p95",
        sorted(shown)[int(0.95 * len(shown))],
        "ms",
        details={"p50_ms": statistics.median(shown), "worst_ms": max(shown)},
    )


_FIRST_PAINT = """new Promise((told) => new PerformanceObserver((list) => {
  const [entry] = list.getEntriesByName("first-contentful-paint");
  if (entry) { told(entry.startTime); }
}).observe({ type: "paint", buffered: true }))"""


def _opened(setting: Setting) -> list[str]:
    """An open widget for each customer; their secrets."""
    _fill(setting)
    with Session(setting.stack.engine) as session, unit_of_work(session):
        return [_open(session, f"cus_{i:06d}") for i in range(OPEN)]


def _fill(setting: Setting) -> None:
    """So many customers with priced and counted usage."""
    setting.empty()
    with Session(setting.stack.engine) as session:
        fill(session, setting.timeline.series(TENANT, COUNTED, customers=OPEN))
        with unit_of_work(session):
            give_a_price(session)
            metrics.edit(session, TENANT, METRIC, {"unit": "calls"}, now=datetime.now(UTC))
        while True:
            with unit_of_work(session):
                folded = fold.fold(session, TENANT, now=datetime.now(UTC))
            if folded is None or not folded.taken:
                break


def _code(session: Session, customer_ref: str) -> str:
    now = datetime.now(UTC)
    wanted = widgets.Wanted(customer_ref, origins=[HOST], ttl=timedelta(hours=12))
    token, _ = widgets.mint(session, TENANT, wanted, created_by="bench", now=now)
    return widgets.exchange(session, token, HOST, now=now).code


def _open(session: Session, customer_ref: str) -> str:
    code, now = _code(session, customer_ref), datetime.now(UTC)
    session.flush()
    frame = installation.widget_frame(session, code, now=now)
    secret = widgets.open_frame(session, frame, now=now) if frame is not None else None
    if secret is None:
        raise RuntimeError("a fresh code did not open its frame")
    return secret


def _run(polling: Polling) -> Looks:
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(polling, theirs), daemon=True)
    process.start()
    theirs.close()
    got: Looks | str = pipe.recv()
    process.join()
    if isinstance(got, str):
        raise RuntimeError(got)
    return got


def _serve(polling: Polling, pipe: Connection) -> None:
    try:
        pipe.send(asyncio.run(_poll(polling)))
    except (OSError, ValueError, asyncio.IncompleteReadError) as error:
        pipe.send(f"a widget's look failed: {error}")


async def _poll(polling: Polling) -> Looks:
    opened = [_Widget(polling.port, secret) for secret in polling.secrets]
    for widget in opened:
        await widget.open()
    began = time.monotonic()
    if polling.seconds is None:
        for turn in range(polling.serial):
            await opened[turn % len(opened)].look()
    else:
        await asyncio.gather(
            *(
                widget.keep_looking(began + EVERY_SECONDS * place / len(opened), polling.seconds)
                for place, widget in enumerate(opened)
            )
        )
    seconds = time.monotonic() - began
    for widget in opened:
        widget.close()
    return Looks(
        [each for widget in opened for each in widget.milliseconds],
        sum(widget.late for widget in opened),
        seconds,
        [widget.whole_milliseconds for widget in opened],
    )


class _Widget:
    """One connection that asks again and again, with the ETag of the answer before."""

    def __init__(self, port: int, secret: str) -> None:
        self._port, self._secret, self._etag = port, secret, ""
        self.milliseconds: list[float] = []
        self.whole_milliseconds = 0.0
        self.late = 0

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        began = time.perf_counter()
        status, self._etag = await self._ask()
        self.whole_milliseconds = 1000 * (time.perf_counter() - began)
        if status != 200:
            raise ValueError(f"the first look was answered with {status}")

    async def look(self) -> None:
        began = time.perf_counter()
        status, etag = await self._ask()
        if status == 304:
            self.milliseconds.append(1000 * (time.perf_counter() - began))
        elif status != 200:
            raise ValueError(f"a look was answered with {status}")
        # What is shown is made anew every five minutes: not what is measured here.
        self._etag = etag

    async def keep_looking(self, first: float, seconds: float) -> None:
        due = first
        while due < first + seconds:
            now = time.monotonic()
            if now > due + EVERY_SECONDS:
                self.late += 1
                due += EVERY_SECONDS
                continue
            await asyncio.sleep(max(0.0, due - now))
            await self.look()
            due += EVERY_SECONDS

    async def _ask(self) -> tuple[int, str]:
        self._writer.write(
            b"GET /widget/usage? HTTP/1.1\r\nHost: localhost\r\n"
            + f"X-Widget-Session: {self._secret}\r\nIf-None-Match: {self._etag}\r\n\r\n".encode()
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = int(head.split(" ", 2)[1])
        headers = dict(
            line.lower().split(": ", 1) if ": " in line else ("", "")
            for line in head.split("\r\n")[1:]
        )
        if status != 304:
            await self._reader.readexactly(int(headers["content-length"]))
        return status, headers.get("etag", "")

    def close(self) -> None:
        self._writer.close()
