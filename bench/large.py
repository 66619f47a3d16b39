"""Ingest into a ledger that already holds many events: BENCH_LARGE=1, or a number of them."""

import time

from bench import ingest
from bench.rounds import Line
from bench.setting import TENANT, Setting

ROWS = 20_000_000
CHUNK = 250_000
# Preloading stops here, however many rows there are by then; the title says how many.
LONGEST_SECONDS = 900

# Keys are prefixed by time as the server derives them; a tenth is random as senders choose them.
_CHUNK = """
INSERT INTO events (tenant_id, idempotency_key, metric, customer_ref, quantity, occurred_at,
                    recorded_at, meta)
SELECT %s, CASE WHEN i %% 10 = 0 THEN 'req_' || md5(i::text)
                ELSE 'evt_' || lpad(to_hex(extract(epoch FROM at)::bigint), 8, '0')
                     || left(md5(i::text), 24) END,
       'api_calls', 'cus_' || lpad((i %% 200000)::text, 6, '0'), i %% 97 + 1.5, at, at,
       '{"region":"eu-west-1","plan":"pro"}'
FROM generate_series(%s::bigint, %s::bigint) AS i
CROSS JOIN LATERAL (SELECT now() - interval '90 days' + i * interval '0.38 seconds' AS at) AS t
ORDER BY i
"""


def preloaded(setting: Setting, wanted: int) -> list[Line]:
    """Fill the ledger on the server's side, then ingest as into an empty one."""
    setting.empty()
    started, rows = time.monotonic(), 0
    while rows < wanted and time.monotonic() - started < LONGEST_SECONDS:
        setting.sql.execute(_CHUNK, (TENANT, rows, rows + CHUNK - 1))
        rows += CHUNK
    setting.sql.execute("VACUUM (ANALYZE) events")
    setting.sql.execute("CHECKPOINT")
    lines = []
    for clients in (1, 4):
        line = ingest.batches(
            setting, clients=clients, name=f"large_batches_{clients}", fresh=False
        )
        line.title += f", {rows / 1e6:g} M rows before"
        line.details["rows"] = rows
        lines.append(line)
    setting.empty()
    return lines
