"""The form of an event that is plainly good, for the fast lanes of all ways in.

They may alter nothing: what is not plainly good, a careful lane decides.
"""

import re
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

QUANTITY = rb'(?:0|[1-9][0-9]{0,19})(?:\.[0-9]{1,12})?|"[0-9]{1,20}"'
is_plain_quantity = re.compile(QUANTITY).fullmatch
is_plain_number = re.compile(r"(?:0|[1-9][0-9]{0,19})(?:\.[0-9]{1,12})?").fullmatch
REQUIRED = (b'"metric"', b'"customerRef"', b'"quantity"', b'"ts"')


class PlainEvent(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """An event but for its tenant, with the lengths that it may have."""

    metric: Annotated[str, Meta(min_length=1, max_length=100)]
    customer_ref: Annotated[str, Meta(min_length=1, max_length=255)]
    quantity: Raw
    ts: str
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=255)] | UnsetType | None = UNSET
    resource_id: Annotated[str, Meta(max_length=255)] | UnsetType | None = UNSET
    meta: Raw | UnsetType = UNSET
    source: Annotated[str, Meta(max_length=64)] | UnsetType | None = UNSET

    def names(self) -> int:
        """How many optional names were given, with their values or null."""
        return (
            (self.idempotency_key is not UNSET)
            + (self.resource_id is not UNSET)
            + (self.meta is not UNSET)
            + (self.source is not UNSET)
        )
