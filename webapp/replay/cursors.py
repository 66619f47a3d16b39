"""Where a replay goes on: an opaque text that holds only for the question it was given to."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from metering.catalog.period import Span
from metering.counters.replay import PHASES, Position
from webapp import cursor


@dataclass(frozen=True)
class Question:
    """What was asked, word by word: a cursor is of no other."""

    tenant_id: str
    metrics: Sequence[str] | None
    customer_ref: str | None
    since: str | None
    until: str | None
    applies: bool


def write(question: Question, span: Span, at: Position) -> str:
    """The place, with the range that the first call settled: `now` has moved on since."""
    parts = _parts(span, at)
    return cursor.write([*parts, _seal(question, parts)])


def read(question: Question, text: str) -> tuple[Span, Position]:
    """The range and the place. Raises: InvalidInputError for a text that is not of this question,
    or that somebody changed."""
    *parts, seal = cursor.read(text, 7)
    if seal != _seal(question, parts) or parts[2] not in PHASES:
        raise cursor.refused()
    start_at, end_at, phase, at, customer_ref, metric = parts
    span = Span(datetime.fromisoformat(start_at), datetime.fromisoformat(end_at))
    return span, Position(phase, datetime.fromisoformat(at), customer_ref, metric)


def _parts(span: Span, at: Position) -> list[str]:
    instants = span.start_at.isoformat(), span.end_at.isoformat()
    return [*instants, at.phase, at.at.isoformat(), at.customer_ref, at.metric]


def _seal(question: Question, parts: Sequence[str]) -> str:
    """Keeps a cursor from being taken for another question's; it is no secret."""
    names = None if question.metrics is None else sorted(set(question.metrics))
    asked = [
        question.tenant_id,
        names,
        question.customer_ref,
        question.since,
        question.until,
        question.applies,
    ]
    return hashlib.sha256(json.dumps([asked, list(parts)]).encode()).hexdigest()[:32]
