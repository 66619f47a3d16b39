"""Which events were there at an instant, told later: by the transactions that had committed."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

# No transaction lives for so long: what was recorded earlier was there, or never came.
_RECENT = timedelta(hours=1)
_SPAN = 1 << 32


@dataclass(frozen=True)
class Moment:
    """A snapshot of Postgres' and our own clock. below: all transactions before it had ended.

    before: none from it on had begun.  open: those in between that were still open.
    """

    at: datetime
    below: int
    before: int
    open: frozenset[int]

    @classmethod
    def of(cls, session: Session, now: datetime) -> "Moment":
        """The session's own snapshot."""
        statement = "SELECT pg_current_snapshot()::text"
        text = session.connection().exec_driver_sql(statement).scalar_one()
        below, before, open_ = text.split(":")
        return cls(
            now, int(below), int(before), frozenset(int(each) for each in open_.split(",") if each)
        )

    def shows(self, recorded_at: datetime, xid: int) -> bool:
        """Whether a row was there. xid: its `xmin`, 32 bits wide."""
        if recorded_at < self.at - _RECENT:
            return True
        whole = self.before - self.before % _SPAN + xid
        if whole > self.before + _SPAN // 2:
            whole -= _SPAN
        return whole < self.below or (whole < self.before and whole not in self.open)
