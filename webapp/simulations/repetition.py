"""A creating request named by an `Idempotency-Key`: the second one is given what the first made."""

import base64
import hashlib
import json
import secrets
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy.orm import Session

from metering.ledger import requests
from webapp.endpoint import request_key


class Made(NamedTuple):
    """The id of what a request makes, and whether it is still to be made."""

    id: str
    is_new: bool


def claim(
    session: Session,
    tenant_id: str,
    operation: str,
    body: dict[str, Any],
    *,
    now: datetime,
    advice: str = "",
) -> Made:
    """The id for what this request makes: of a named request always the same one.

    advice: what to do instead, for the refusal.
    Raises: InvalidInputError if the name stands for another body.
    """
    named = request_key()
    if named is None:
        return Made(secrets.token_urlsafe(12), True)
    sent = msgspec.json.encode(body, order="sorted") if body else b"{}"
    is_new = requests.claim(session, tenant_id, operation, named, sent, now=now, advice=advice)
    digest = hashlib.sha256(json.dumps([tenant_id, operation, named]).encode()).digest()
    return Made(base64.urlsafe_b64encode(digest[:12]).decode(), is_new)
