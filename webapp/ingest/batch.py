"""What a parsed request holds, and the wall that both lanes check."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from metering.errors import ForbiddenError
from metering.ledger.append import Entry


@dataclass
class Batch:
    """A parsed request.

    entries, tenants, derived: by position, for the events that are good; `derived` holds the
        positions whose key was derived from the content.
    errors: by position, the reason of each refused event.
    keys: by position, the key of a refused event as far as it is known.
    size: the number of events sent.
    """

    size: int
    entries: dict[int, Entry] = field(default_factory=dict)
    tenants: dict[int, str] = field(default_factory=dict)
    derived: set[int] = field(default_factory=set)
    errors: dict[int, str] = field(default_factory=dict)
    keys: dict[int, str] = field(default_factory=dict)


def check_wall(named: Iterable[str], own_tenant: str | None) -> None:
    """Raise ForbiddenError if any tenant named is another than the caller's (None: all are his)."""
    if own_tenant is not None and any(tenant != own_tenant for tenant in set(named)):
        raise ForbiddenError("the batch names another tenant; nothing of it was stored")
