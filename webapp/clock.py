"""The app's clock: the only reader of the wall clock. Everything else is handed a `now`.

In the sandbox the stand-in for Stripe owns the time. It may be moved forward by hand, and says by
how many seconds in a small file (`{"offset_seconds": 86400}`, replaced as a whole) which every
process of ours reads: the product and its Stripe then live at one instant. The configuration
refuses such a file outside the sandbox and beside a live key.
"""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

_NONE = timedelta(0)
# An offset beyond it could make instants that Python cannot hold.
_MOST_SECONDS = 200 * 366 * 86_400


@dataclass
class _Follower:
    """How far the clock in a file is ahead of the machine's. Read again only when it changes."""

    path: Path
    seen: tuple[int, int, int] | None = None
    offset: timedelta = _NONE

    def look(self) -> timedelta:
        """The offset; none while the file is missing or cannot be read."""
        try:
            found = os.stat(self.path)
        except OSError:
            self.seen, self.offset = None, _NONE
            return _NONE
        seen = (found.st_mtime_ns, found.st_ino, found.st_size)
        if seen != self.seen:
            self.seen, self.offset = seen, _offset_in(self.path)
        return self.offset


_follower: _Follower | None = None


def follow(path: Path | None) -> None:
    """Have `wall()` follow the clock in this file from now on; None: the machine's own clock."""
    global _follower
    _follower = _Follower(path) if path is not None else None


def wall() -> datetime:
    """The present instant, aware, UTC."""
    ahead = _follower.look() if _follower is not None else _NONE
    return datetime.now(UTC) + ahead


def machine() -> datetime:
    """The instant of the machine's own clock: only to compare with what other programs stamp."""
    return datetime.now(UTC)


def _offset_in(path: Path) -> timedelta:
    try:
        seconds = json.loads(path.read_bytes())["offset_seconds"]
    except (OSError, ValueError, KeyError, TypeError):
        return _NONE
    whole = isinstance(seconds, int) and not isinstance(seconds, bool)
    if not whole or not 0 <= seconds <= _MOST_SECONDS:
        return _NONE
    return timedelta(seconds=seconds)
