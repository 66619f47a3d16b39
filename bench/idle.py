"""The clock's look for something to tell Stripe, while there is nothing: what it costs for ever.

Beside 100,000 streams with a mapping each and a million pushes, all confirmed. The job's own
function, in a process of its own, with pauses as the clock has them and not in one breath. Its
floor is a transaction of as many statements that read nothing, after each tick.
"""

import multiprocessing
import os
import statistics
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection

import psycopg
from sqlalchemy.engine import make_url

from bench.rounds import Line
from bench.setting import TENANT, Setting
from metering import installation

STREAMS, PUSHES = 100_000, 1_000_000
TICKS = 200
STATEMENTS = 3
PAUSE_SECONDS = 0.02
_STREAMS = """
INSERT INTO push_streams (tenant_id, stream_id, mode, account_id, event_name, stripe_customer,
                          created_at, confirmed_at)
SELECT %(tenant)s, 'str_' || lpad(i::text, 24, '0'), 'test', 'acct_bench', 'api_calls',
       'cus_' || lpad(i::text, 6, '0'), now(), now()
FROM generate_series(1, %(streams)s::int) AS i
"""
_SOURCES = """
INSERT INTO stream_sources (tenant_id, stream_id, customer_ref, metric)
SELECT tenant_id, stream_id, stripe_customer, 'api_calls' FROM push_streams
"""
_MAPPINGS = """
INSERT INTO mappings (tenant_id, mapping_id, metric, customer_ref, meter_event_name, is_active,
                      is_shadow, effective_from, created_at, updated_at)
SELECT tenant_id, 'map_' || right(stream_id, 24), 'api_calls', stripe_customer, event_name, true,
       true, now() - interval '1 year', now(), now()
FROM push_streams
"""
_PUSHES = """
INSERT INTO pushes (tenant_id, identifier, stream_id, basis, segment_start, quantity, stamped_at,
                    state, attempts, outcomes, claimed_at, lease_until, settled_at, confirmed_at)
SELECT %(tenant)s, 'sm_' || md5(i::text), 'str_' || lpad((i %% %(streams)s + 1)::text, 24, '0'),
       'hour', at, 1.5, at, 'confirmed', 1, 1, at, at, at, at
FROM generate_series(1, %(pushes)s::int) AS i
CROSS JOIN LATERAL (
    SELECT date_trunc('hour', now()) - interval '1 hour' * (i / %(streams)s)) AS t (at)
"""
# Milliseconds of each tick, of each bare transaction, and of the process's own work for a tick.
_Taken = tuple[list[float], list[float], float]
# Segments whose turn comes later, as they wait between two pushes.
_PUT_OFF = """
INSERT INTO unsent (tenant_id, mode, customer_ref, metric, segment_start, changed_at, due_at)
SELECT tenant_id, 'test', customer_ref, metric, date_trunc('hour', now()), now(),
       now() + interval '1 hour'
FROM stream_sources
"""


def tick(setting: Setting) -> list[Line]:
    """With nothing unsent; and, without a gate, with a row for each stream that is not due, and
    with the dead rows of so many that were just sent."""
    streams, pushes = (10_000, 50_000) if setting.quick else (STREAMS, PUSHES)
    setting.empty()
    setting.sql.execute(
        "INSERT INTO metrics (tenant_id, metric, created_at) VALUES (%s, 'api_calls', now())"
        " ON CONFLICT DO NOTHING",
        (TENANT,),
    )
    given = {"tenant": TENANT, "streams": streams, "pushes": pushes}
    for statement in (_STREAMS, _SOURCES, _MAPPINGS, _PUSHES):
        setting.sql.execute(statement, given)
    for table in ("push_streams", "stream_sources", "mappings", "pushes"):
        setting.sql.execute(f"VACUUM (ANALYZE) {table}")
    title = f"idle tick, {streams:,} streams, {pushes:,} pushes"
    lines = [_line("idle_tick", title, _ticks(setting))]
    setting.sql.execute(_PUT_OFF)
    setting.sql.execute("VACUUM (ANALYZE) unsent")
    lines.append(_line("waiting_tick", "… and a row for each that is not due", _ticks(setting)))
    setting.sql.execute("DELETE FROM unsent")
    lines.append(_line("drained_tick", "… and these rows just deleted", _ticks(setting)))
    setting.empty()
    return lines


def _line(name: str, title: str, taken: _Taken) -> Line:
    """The median; as its spread, the least and the p95."""
    ticks, bare, cpu_ms = sorted(taken[0]), taken[1], taken[2]
    return Line(
        name,
        title,
        statistics.median(ticks),
        "ms",
        spread=(ticks[0], ticks[int(len(ticks) * 0.95)]),
        details={
            "p95_ms": ticks[int(len(ticks) * 0.95)],
            "greatest_ms": ticks[-1],
            "own_cpu_ms": cpu_ms,
            "bare_transaction_ms": statistics.median(bare),
        },
    )


def _ticks(setting: Setting) -> _Taken:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(dict(setting.stack.environment), theirs))
    process.start()
    theirs.close()
    taken: _Taken = ours.recv()
    process.join()
    return taken


def _serve(environment: Mapping[str, str], pipe: Connection) -> None:
    os.environ.update(environment)
    from jobs import deltas
    from jobs.runtime import step

    ticks, bare, cpu = [], [], 0.0
    url = make_url(environment["DATABASE_URL"]).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False)) as connection:
        for _ in range(TICKS):
            time.sleep(PAUSE_SECONDS)
            started, spent = time.perf_counter(), time.process_time()
            deltas.tick()
            ticks.append((time.perf_counter() - started) * 1e3)
            cpu += time.process_time() - spent
            started = time.perf_counter()
            for _ in range(STATEMENTS):
                connection.execute("SELECT 1")
            connection.commit()
            bare.append((time.perf_counter() - started) * 1e3)
    with step() as (session, now):
        if busy := installation.tenants_with_pushes(session, now=now):
            raise RuntimeError(f"these ticks were not idle: {busy}")
    # The first one connects.
    pipe.send((ticks[1:], bare[1:], cpu * 1e3 / TICKS))
