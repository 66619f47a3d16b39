"""What is shown once everything runs."""

from pathlib import Path

from sandbox.standin import StandIn

BANNER = """
StripeMeter is running.

  Start here {address}/
{stripe}  API docs   {address}/docs
  Console    {address}/console
  Metrics    {address}/metrics
  Database   {database}
  Logs       {logs}

Send a first event:

curl -X POST {address}/v1/events/ingest -H "Content-Type: application/json" \\
  -d '{{"events":[{{"tenantId":"your-tenant-id","metric":"api_calls","customerRef":"cus_ABC123",\
"quantity":100,"ts":"2025-01-16T14:30:00Z"}}]}}'

`.venv/bin/stripemeter --help` works on this sandbox from this folder. Ctrl-C stops everything.
"""


STRIPE = """\
  Demo       {demo}/
  Customer   {demo}/app (the widget, in a made-up product of theirs)
  Stripe     {stripe}/ (a stand-in on this machine; its clock is ours)
"""


def banner(
    port: int, embedded_database_url: str | None, logs: Path, stand_in: StandIn | None = None
) -> str:
    """A database of the user's own is not printed: its URL may hold a password."""
    database = "the one of DATABASE_URL"
    if embedded_database_url is not None:
        database = f'psql "{embedded_database_url.replace("+psycopg", "", 1)}"'
    stripe = ""
    if stand_in is not None:
        stripe = STRIPE.format(demo=address(stand_in.demo_port), stripe=address(stand_in.port))
    return BANNER.format(address=address(port), database=database, logs=logs, stripe=stripe)


def address(port: int) -> str:
    return f"http://localhost:{port}"
