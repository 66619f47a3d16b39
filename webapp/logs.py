"""Structured logs: one JSON object a line, with the request's id and tenant.

Never a key, a token or an event's meta.
"""

import logging
import sys

from flask import g, has_request_context
from pythonjsonlogger.json import JsonFormatter


class _Context(logging.Filter):
    """Adds what the request knows about itself to every record made during it."""

    def filter(self, record: logging.LogRecord) -> bool:
        if has_request_context():
            record.requestId = g.get("request_id")
            record.tenantId = g.get("tenant_id")
        return True


def configure(level: str) -> None:
    """Send all logging to stderr as JSON; safe to call again."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Context())
    handler.setFormatter(
        JsonFormatter(
            "{asctime}{levelname}{name}{message}",
            style="{",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            datefmt="%Y-%m-%dT%H:%M:%S%z",
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
