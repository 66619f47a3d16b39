"""A replay of a month of 5 million events: with nothing wrong, and with a thousand wrong hours.

In this process, as `stripemeter replay --apply` does it: pages of the ledger, each mended in one
transaction under the tenant's lock.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from bench.rounds import Line
from bench.setting import TENANT, Setting
from metering.catalog.period import Span
from metering.counters import replay as counted
from metering.counters.doubts import Scope
from metering.counters.replay import Budget
from metering.database import unit_of_work
from metering.proof import replay
from metering.proof.replay import Asked, Page

EVENTS, WRONG, ROUNDS = 5_000_000, 1_000, 3
MONTH = Span(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))

# In time order, as they come in: 1,024 customers, three metrics, an hour of each in two million.
_EVENTS = """
INSERT INTO events (tenant_id, idempotency_key, metric, customer_ref, quantity, occurred_at,
                    recorded_at, meta)
SELECT %(tenant)s, 'evt_' || lpad(to_hex(extract(epoch FROM at)::bigint), 8, '0')
           || left(md5(i::text), 24),
       (ARRAY['api_calls', 'tokens', 'seats'])[1 + i %% 3],
       'cus_' || lpad((hashint8(i) & 1023)::text, 6, '0'), i %% 97 + 1.5, at, at,
       '{"region":"eu-west-1","plan":"pro"}'
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS i
CROSS JOIN LATERAL (SELECT %(start)s::timestamptz + i * interval '30 days' / %(events)s AS at) AS t
ORDER BY i
"""
_METRICS = """
INSERT INTO metrics (tenant_id, metric, created_at)
SELECT %(tenant)s, unnest(ARRAY['api_calls', 'tokens', 'seats']), %(start)s
"""
_LAST = """(array_agg({value} ORDER BY {at} DESC, {key} DESC))[1]"""
_OF_EVENTS = {"at": "occurred_at", "key": "idempotency_key"}
_OF_HOURS = {"at": "last_occurred_at", "key": "last_key"}
_SEGMENTS = f"""
INSERT INTO segments (tenant_id, customer_ref, metric, segment_start, event_count, sum_value,
                      max_value, last_value, last_occurred_at, last_key)
SELECT %(tenant)s, customer_ref, metric, date_trunc('hour', occurred_at, 'UTC'), count(*),
       sum(quantity), max(quantity), {_LAST.format(value="quantity", **_OF_EVENTS)},
       max(occurred_at), {_LAST.format(value="idempotency_key", **_OF_EVENTS)}
FROM events WHERE tenant_id = %(tenant)s GROUP BY 2, 3, 4 ORDER BY 4, 2, 3
"""
_COUNTERS = f"""
INSERT INTO counters (tenant_id, customer_ref, metric, period_start, period_end, event_count,
                      sum_value, max_value, last_value, last_occurred_at, last_key, watermark,
                      folded_at)
SELECT %(tenant)s, customer_ref, metric, %(start)s, %(end)s, sum(event_count), sum(sum_value),
       max(max_value), {_LAST.format(value="last_value", **_OF_HOURS)}, max(last_occurred_at),
       {_LAST.format(value="last_key", **_OF_HOURS)}, max(last_occurred_at), %(end)s
FROM segments WHERE tenant_id = %(tenant)s GROUP BY 2, 3
"""
# Hours of many customers on all days.
_DAMAGE = """
UPDATE segments SET sum_value = sum_value + 1 WHERE tenant_id = %(tenant)s AND ctid = ANY (ARRAY(
    SELECT ctid FROM segments WHERE tenant_id = %(tenant)s
    ORDER BY md5(customer_ref || metric || segment_start) LIMIT %(wrong)s))
"""
_CHUNK = 500_000


def month(setting: Setting) -> list[Line]:
    """Seconds for the whole of it, in both cases; the slowest page and what was found besides."""
    events = EVENTS // 25 if setting.quick else EVENTS
    _fill(setting, events)
    lines = [_measured(setting, "replay", f"replay of {events:,} events, all right", events, 0)]
    title = f"replay of {events:,} events, {WRONG:,} hours wrong"
    lines.append(_measured(setting, "replay_wrong", title, events, WRONG))
    setting.empty()
    return lines


def _fill(setting: Setting, events: int) -> None:
    setting.empty()
    named = {"tenant": TENANT, "start": MONTH.start_at, "end": MONTH.end_at, "events": events}
    for first in range(1, events + 1, _CHUNK):
        last = min(first + _CHUNK - 1, events)
        setting.sql.execute(_EVENTS, named | {"first": first, "last": last})
    for statement in (_METRICS, _SEGMENTS, _COUNTERS):
        setting.sql.execute(statement, named)
    setting.sql.execute("VACUUM (ANALYZE)")
    setting.sql.execute("CHECKPOINT")


def _measured(setting: Setting, name: str, title: str, events: int, wrong: int) -> Line:
    taken, slowest, changed = [], 0.0, 0
    cpu = setting.stack.cpu()
    for _ in range(1 if setting.quick else ROUNDS):
        if wrong:
            setting.sql.execute(_DAMAGE, {"tenant": TENANT, "wrong": wrong})
        started = time.perf_counter()
        for seconds, page in _pages(setting):
            slowest, changed = max(slowest, seconds), changed + page.segments
            events -= sum(page.found.values())
        taken.append(time.perf_counter() - started)
        assert changed == wrong, f"{changed} of {wrong} wrong hours were mended"
        assert events == 0, "not every event was looked at"
        events, changed = EVENTS // 25 if setting.quick else EVENTS, 0
    spent = setting.stack.cpu().since(cpu).postgres / len(taken)
    details = {"slowest_page_s": slowest, "postgres_cpu_s": spent}
    middle = sorted(taken)[len(taken) // 2]
    return Line(name, title, middle, "s", spread=(min(taken), max(taken)), details=details)


def _pages(setting: Setting) -> Iterator[tuple[float, Page]]:
    @contextmanager
    def step() -> Iterator[tuple[Session, datetime]]:
        with Session(setting.stack.engine) as session, unit_of_work(session):
            yield session, MONTH.end_at + timedelta(days=1)

    asked = Asked(Scope(TENANT), MONTH, applies=True)
    place: counted.Position | None = counted.start(MONTH)
    while place is not None:
        began = time.perf_counter()
        page = replay.page(step, asked, place, Budget(5.0))
        place = page.next
        yield time.perf_counter() - began, page
