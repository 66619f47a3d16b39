"""A worker is killed in the middle of a file, and the file is sent again: every counter is what
another program makes of the same file, and every bad line is named.

BACKFILL_ROWS=1000000 runs it at its real size, by hand.
"""

import http.client
import json
import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import duckdb
import pytest
from sqlalchemy import text

from metering.ledger.append import CONFLICT
from tests.generated_usage import METRICS, Written, write
from tests.scenarios.stack import Stack, eventually

ROWS = int(os.environ.get("BACKFILL_ROWS", "60000"))
PATIENCE = 60 + ROWS / 5000
Key = tuple[str, str, datetime]

# In no code of ours: which lines are good, which of a key counts, and what they come to. DuckDB
# leaves out lines of another number of columns and bytes that are not UTF-8 by itself.
_COMPUTED = r"""
WITH file AS (
    SELECT row_number() OVER () AS line, *
    FROM read_csv(?, header = true, all_varchar = true, delim = ',', quote = '"', escape = '"',
                  ignore_errors = true, null_padding = false, parallel = false,
                  new_line = '\n', strict_mode = true)
), dated AS (
    SELECT *, try_cast(ts AS TIMESTAMPTZ) AS occurred FROM file
), good AS (
    SELECT line, metric, customerRef AS customer, resourceId AS resource,
           try_cast(quantity AS DECIMAL(38, 12)) AS quantity, occurred,
           coalesce(idempotencyKey, 'evt_' || format('{:08x}', epoch_us(occurred) // 1000000)
               || left(sha256('["' || ? || '","' || metric || '","' || customerRef || '",'
                              || coalesce(to_json(resourceId)::VARCHAR, 'null')
                              || ',"' || ts || '"]'), 24)) AS key
    FROM dated
    WHERE metric IS NOT NULL AND customerRef IS NOT NULL
      AND regexp_full_match(quantity, '[0-9]{1,20}(\.[0-9]{1,12})?')
      AND regexp_full_match(ts, '20[0-9-]{8}T[0-9:]{8}(\.[0-9]+)?Z')
      AND occurred < '2027-01-01T00:00:00Z'
      AND (source IS NULL OR length(source) <= 64)
      AND (meta IS NULL OR (json_valid(meta) AND meta LIKE '{%'))
), firsts AS (
    SELECT * FROM good QUALIFY row_number() OVER (PARTITION BY key ORDER BY line) = 1
)
SELECT customer, metric, date_trunc('month', occurred AT TIME ZONE 'UTC') AS month,
       sum(quantity), count(*), max(quantity), arg_max(quantity, (occurred, key)),
       count(DISTINCT resource)
FROM firsts GROUP BY ALL
"""


def computed(file: Path, tenant: str) -> dict[Key, tuple[Any, ...]]:
    """(customer, metric, month) → (sum, count, max, last, unique)."""
    with duckdb.connect() as duck:
        duck.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = true; SET threads = 1")
        rows = duck.execute(_COMPUTED, [str(file), tenant]).fetchall()
    return {(r[0], r[1], r[2].replace(tzinfo=UTC)): tuple(r[3:]) for r in rows}


def counted(stack: Stack, tenant: str) -> dict[Key, tuple[Any, ...]]:
    statement = """
        SELECT customer_ref, metric, period_start, sum_value, event_count, max_value, last_value,
               unique_count
        FROM counters WHERE tenant_id = :t
    """
    with stack.engine.connect() as connection:
        rows = connection.execute(text(statement), {"t": tenant}).all()
    return {(r[0], r[1], r[2].astimezone(UTC)): tuple(r[3:]) for r in rows}


def send(stack: Stack, tenant: str, file: Path) -> str:
    """Upload the file; where its progress is told."""
    query = urlencode({"tenantId": tenant, "reason": "a life", "fileName": file.name})
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=120)
    with file.open("rb") as body:
        size = {"Content-Type": "text/csv", "Content-Length": str(file.stat().st_size)}
        connection.request("POST", f"/v1/events/backfill?{query}", body, size)
        answer = connection.getresponse()
        found = json.loads(answer.read())
    connection.close()
    assert answer.status == 202, found
    return f"/v1/events/backfill/{found['id']}?tenantId={tenant}"


def errors(stack: Stack, tenant: str, address: str) -> dict[int, str]:
    """Every refused line, page by page."""
    found: dict[int, str] = {}
    path = address.replace("?", "/errors?limit=1000&")
    cursor = ""
    while True:
        page = stack.request("GET", f"{path}{cursor}")[1]
        found |= {each["line"]: each["message"] for each in page["errors"]}
        if page["nextCursor"] is None:
            return found
        cursor = f"&cursor={page['nextCursor']}"


def check_errors(found: dict[int, str], written: Written) -> None:
    assert found.keys() == written.broken.keys() | written.conflicts
    assert {found[line] for line in written.conflicts} == {CONFLICT}
    assert all(found[line] != CONFLICT for line in written.broken)


@pytest.mark.timeout(60 + 5 * PATIENCE)
def test_a_file_killed_in_its_middle_and_sent_twice_counts_once(
    stack: Stack, acme: str, tmp_path: Path
) -> None:
    file = tmp_path / "usage.csv"
    written = write(file, ROWS)
    for metric in METRICS:
        asked = {"tenantId": acme, "unique": True}
        assert stack.request("PUT", f"/v1/metrics/{metric}", asked)[0] == 200
    first = send(stack, acme, file)

    def look(address: str) -> dict[str, Any]:
        return dict(stack.request("GET", address)[1])

    # No clock yet: what the dead worker held is found by nobody before it is looked at.
    stack.start_worker("bulk")
    done = eventually(lambda: look(first)["processed"], "a first chunk is read", PATIENCE)
    stack.kill("worker")
    left = look(first)
    assert left["state"] == "running"
    assert done <= left["processed"] < written.lines
    assert left["accepted"] == stack.scalar("SELECT count(*) FROM events WHERE tenant_id = :t",
                                            t=acme)  # fmt: skip

    with stack.engine.begin() as connection:
        # The sweep's patience, without the wait.
        connection.execute(
            text("UPDATE backfills SET touched_at = touched_at - interval '16 seconds'"
                 " WHERE tenant_id = :t"),
            {"t": acme},
        )  # fmt: skip
    stack.start_worker("bulk")
    stack.start_clock()

    def ended(address: str) -> dict[str, Any]:
        return dict(
            eventually(
                lambda: (found := look(address))["state"] == "done" and found, "it ends", PATIENCE
            )
        )

    once = ended(first)
    assert once["processed"] == written.lines
    assert once["accepted"] == written.fresh
    assert once["duplicates"] == written.repeated
    check_errors(errors(stack, acme, first), written)

    second = send(stack, acme, file)
    again = ended(second)
    assert again["accepted"] == 0
    assert again["duplicates"] == written.fresh + written.repeated
    check_errors(errors(stack, acme, second), written)

    stack.end("worker")
    stack.start_worker("counters")
    stack.wait_until_folded(acme, PATIENCE)
    expected, found = computed(file, acme), counted(stack, acme)
    assert len(expected) > 100
    assert found.keys() == expected.keys()
    assert {key: row for key, row in found.items() if row != expected[key]} == {}
    assert sum(row[1] for row in found.values()) == written.fresh
    assert sum(row[0] for row in found.values()) == sum(
        (row[0] for row in expected.values()), Decimal(0)
    )
    parts = "SELECT count(*) FROM backfill_parts WHERE tenant_id = :t"
    assert stack.scalar(parts, t=acme) == 0
