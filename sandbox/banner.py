"""What is shown once everything runs."""

from pathlib import Path

BANNER = """
StripeMeter is running.

  Start here {address}/
  API docs   {address}/docs
  Metrics    {address}/metrics
  Database   {database}
  Logs       {logs}

Send a first event:

curl -X POST {address}/v1/events/ingest -H "Content-Type: application/json" \\
  -d '{{"events":[{{"tenantId":"your-tenant-id","metric":"api_calls","customerRef":"cus_ABC123",\
"quantity":100,"ts":"2025-01-16T14:30:00Z"}}]}}'

`.venv/bin/stripemeter --help` works on this sandbox from this folder. Ctrl-C stops everything.
"""


def banner(port: int, embedded_database_url: str | None, logs: Path) -> str:
    """A database of the user's own is not printed: its URL may hold a password."""
    database = "the one of DATABASE_URL"
    if embedded_database_url is not None:
        database = f'psql "{embedded_database_url.replace("+psycopg", "", 1)}"'
    return BANNER.format(address=address(port), database=database, logs=logs)


def address(port: int) -> str:
    return f"http://localhost:{port}"
