"""The app's clock: the only reader of the wall clock. Everything else is handed a `now`."""

from datetime import UTC, datetime


def wall() -> datetime:
    """The present instant, aware, UTC."""
    return datetime.now(UTC)
