"""Pushes to Stripe: how many a second one worker makes, and how fast their proof is read.

The whole way of a push: claimed, sent through stripe-python over HTTP, settled, in a real worker
process beside the stand-in's. Its floor is the call alone: as many threads as the worker has, in
a process that does nothing else, to the same stand-in, between the same clocks. What lies between
the two is what claim and settle cost.
"""

import itertools
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from decimal import Decimal
from statistics import median

import redis
import requests
import stripe

from bench import connected, rounds
from bench.connected import StandIn, customer, standing_in
from bench.events import METRIC
from bench.rounds import Line, Sample
from bench.setting import TENANT, Setting
from bench.stack import Cpu
from jobs.deltas import AT_ONCE
from sandbox.standin import KEY
from webapp import queues
from webapp.queues import Hints

STREAMS = 1_000
CALLS = 400
# How many times as many wait, where a worker is far behind.
BACKLOG = 50
# What is confirmed: so many streams, each with a push an hour.
CONFIRMED_STREAMS, CONFIRMED_HOURS = 100, 20
LONGEST_SECONDS = 120.0
_TOLD = "SELECT coalesce(sum(total), 0)::bigint FROM push_totals WHERE outcome = %s"
_ARRIVED = """
SELECT stripe_customer, sum(quantity) FROM pushes JOIN push_streams USING (tenant_id, stream_id)
GROUP BY 1
"""
# As if they had been accepted long enough ago for summaries to show them, and never confirmed.
_AGE = """
WITH again AS (UPDATE push_streams SET confirmed_at = NULL)
UPDATE pushes SET state = 'settled', confirmed_at = NULL, settled_at = now() - interval '11 minutes'
"""


def pushes(setting: Setting) -> list[Line]:
    """A segment each of 1,000 streams, an earlier hour each round; and once the first pushes of
    many times as many that wait."""
    streams, calls = (200, 100) if setting.quick else (STREAMS, CALLS)
    backlog = streams * BACKLOG
    hints, hours = Hints(setting.stack.environment["REDIS_URL"]), itertools.count()
    with (
        standing_in(setting, customers=backlog + AT_ONCE, calm=True) as stand_in,
        setting.stack.working(["stripe"], stand_in.environment),
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        bare = _Bare(stand_in, [customer(backlog + number) for number in range(AT_ONCE)])

        def floor() -> float:
            return bare.rate(pool, calls)

        def prepare(waiting: int = streams) -> Callable[[], Sample]:
            hour = next(hours)
            connected.use(setting, customers=waiting, hours=range(hour, hour + 1))
            return lambda: _pushed(setting, hints, streams)

        prepare()()  # makes the streams, and the worker's connections
        done = rounds.against(setting, floor, prepare, min(setting.rounds, 3))
        _prove(setting, stand_in)
        behind = rounds.against(setting, floor, lambda: prepare(backlog), 1)
    return [
        rounds.line("pushes", "pushes to Stripe, one worker", "pushes/s", done),
        rounds.line("pushes_behind", f"… while {backlog:,} wait", "pushes/s", behind),
    ]


class _Bare:
    """stripe-python and nothing else; a customer for each thread, for Stripe takes one call at a
    time for each."""

    def __init__(self, stand_in: StandIn, customers: list[str]) -> None:
        self._url, self._customers = stand_in.url, iter(customers)
        self._own = threading.local()

    def rate(self, pool: ThreadPoolExecutor, calls: int) -> float:
        """Calls a second."""
        started = time.perf_counter()
        list(pool.map(self._send, range(calls)))
        return calls / (time.perf_counter() - started)

    def _send(self, _: int) -> None:
        if not hasattr(self._own, "client"):
            self._own.client, self._own.customer = self._client(), next(self._customers)
        identifier = f"bench_{secrets.token_hex(16)}"
        self._own.client.v1.billing.meter_events.create(
            {
                "event_name": METRIC,
                "payload": {"stripe_customer_id": self._own.customer, "value": "1"},
                "identifier": identifier,
            },
            {"idempotency_key": identifier},
        )

    def _client(self) -> stripe.StripeClient:
        session = requests.Session()
        session.trust_env = False  # as the driver has it: else each call looks for proxies
        return stripe.StripeClient(
            KEY,
            base_addresses={"api": self._url},
            max_network_retries=0,
            http_client=stripe.RequestsClient(session=session),
        )


def _pushed(setting: Setting, hints: Hints, count: int) -> Sample:
    before, cpu = setting.value(_TOLD, "accepted"), setting.stack.cpu()
    started = time.perf_counter()
    hints.push(TENANT)
    _wait_for(setting, "accepted", before + count)
    sample = _rate(setting, count, time.perf_counter() - started, cpu)
    # Where more waited, the floor that follows must not have to share.
    setting.sql.execute("DELETE FROM unsent")
    while setting.value("SELECT count(*) FROM pushes WHERE state = 'claimed'"):
        time.sleep(0.01)
    return sample


def _rate(setting: Setting, count: int, seconds: float, before: Cpu) -> Sample:
    spent = setting.stack.cpu().since(before)
    return count / seconds, {
        "worker_ms_per_push": spent.worker * 1e3 / count,
        "postgres_ms_per_push": spent.postgres * 1e3 / count,
        "stand_in_ms_per_push": spent.stripe * 1e3 / count,
        "stand_in_share_of_cpu": spent.stripe / spent.total,
        "worker_busy_cores": spent.worker / seconds,
    }


def _prove(setting: Setting, stand_in: StandIn) -> None:
    """A rate of pushes that did not arrive would be none."""
    ours = {str(name): total for name, total in setting.sql.execute(_ARRIVED).fetchall()}
    theirs = {
        each["customer"]: Decimal(each["accepted"])
        for partition in stand_in.control("state")["partitions"]
        for each in partition["streams"]
        if each["customer"] in ours
    }
    if ours != theirs or setting.value("SELECT count(*) FROM unsent"):
        raise RuntimeError("what was pushed is not what the stand-in holds")


def confirm(setting: Setting) -> Line:
    """Pushes judged by Stripe's summaries, in a worker's jobs one after the other."""
    streams, hours = (40, 4) if setting.quick else (CONFIRMED_STREAMS, CONFIRMED_HOURS)
    environment, count, done = setting.stack.environment, streams * hours, []
    with (
        standing_in(setting, customers=streams, calm=True) as stand_in,
        setting.stack.working(["stripe"], stand_in.environment),
        closing(queues.connect(environment["REDIS_URL"])) as jobs,
    ):
        connected.use(setting, customers=streams, hours=range(hours))
        Hints(environment["REDIS_URL"]).push(TENANT)
        _wait_for(setting, "accepted", count)
        for turn in range(setting.rounds):
            setting.sql.execute(_AGE)
            begun = _begin_confirming(setting, jobs, count * turn)
            cpu, started = setting.stack.cpu(), time.perf_counter()
            _wait_for(setting, "confirmed", count * (turn + 1))
            confirmed = count * (turn + 1) - begun
            done.append(_rate(setting, confirmed, time.perf_counter() - started, cpu))
    figures = [figure for figure, _ in done]
    details = {name: median(each[name] for _, each in done) for name in done[0][1]}
    details["pushes_per_stream"] = hours
    return Line(
        "confirm", "pushes confirmed by summaries, one worker", median(figures), "pushes/s",
        spread=(min(figures), max(figures)), details=details,
    )  # fmt: skip


def _begin_confirming(setting: Setting, jobs: redis.Redis, before: int) -> int:
    """Wake the worker until it confirms: it looks at a calm tenant's pushes every half minute.

    Returns: how many are confirmed by then, ever.
    """
    deadline = time.monotonic() + LONGEST_SECONDS
    while (confirmed := int(setting.value(_TOLD, "confirmed"))) <= before:
        if time.monotonic() > deadline:
            raise RuntimeError(f"nothing was confirmed in {LONGEST_SECONDS:.0f} s")
        queues.enqueue(jobs, queues.STRIPE, queues.PUSH_JOB, TENANT)
        time.sleep(0.25)
    return confirmed


def _wait_for(setting: Setting, outcome: str, wanted: int) -> None:
    deadline = time.monotonic() + LONGEST_SECONDS
    while setting.value(_TOLD, outcome) < wanted:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the worker did not end in {LONGEST_SECONDS:.0f} s")
        time.sleep(0.01)
