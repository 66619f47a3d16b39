"""Backfills as they look on the wire."""

from typing import Any

from sqlalchemy.orm import Session

from metering.ledger import backfills
from metering.ledger.models import Backfill, BackfillError
from webapp import wire

CSV_HEADER = ("line", "message", "excerpt")


def listed(found: Backfill) -> dict[str, Any]:
    """How far it is."""
    return {
        "id": found.backfill_id,
        "state": found.state,
        "format": found.format,
        "fileName": found.file_name,
        "reason": found.reason,
        "actor": found.actor,
        "late": found.late,
        "totalBytes": found.bytes_received,
        "processedBytes": found.bytes_done,
        "processed": found.lines_done,
        "accepted": found.accepted,
        "duplicates": found.duplicates,
        "failed": found.failed,
        "error": found.error,
        "createdAt": wire.instant(found.created_at),
        "finishedAt": wire.instant(found.finished_at) if found.finished_at else None,
    }


def whole(session: Session, found: Backfill) -> dict[str, Any]:
    """How far it is, and the first lines that were refused."""
    errors = backfills.errors(session, found.tenant_id, found.backfill_id)
    return listed(found) | {"errors": [error(each) for each in errors]}


def error(each: BackfillError) -> dict[str, Any]:
    return {"line": each.line, "message": each.message, "excerpt": each.excerpt}


def csv_row(each: BackfillError) -> tuple[int, str, str]:
    return each.line, each.message, each.excerpt
