"""What may be switched about the stand-in; everything that Stripe does is on by default."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from sandbox.stripe.core import Json


@dataclass
class Settings:
    """lag_seconds: least and most between acceptance and summary; None: until `settle()`.
    error_samples: errors that a report names, of the many it may count.
    last_tie: which of two events of one instant a `last` meter takes, `received` (the later
    arrival) or `first`; Stripe says nowhere."""

    latency_seconds: float
    lag_seconds: tuple[float, float] | None
    limits: bool
    error_samples: int = 3
    identifier_hours: int = 24
    last_tie: str = "received"

    @classmethod
    def usual(cls, *, by_hand: bool) -> "Settings":
        if by_hand:
            return cls(latency_seconds=0.0, lag_seconds=None, limits=True)
        return cls(latency_seconds=0.02, lag_seconds=(2.0, 4.0), limits=True)

    @classmethod
    def calm(cls) -> "Settings":
        return cls(latency_seconds=0.0, lag_seconds=(0.0, 0.0), limits=False)

    def to_json(self) -> Json:
        return asdict(self)

    def load(self, given: Json) -> None:
        """Change what is named.

        Raises: ValueError for a name or value that cannot be.
        """
        read = {name: _READ[name](value) for name, value in given.items() if name in _READ}
        odd = set(given) - {each.name for each in fields(self)}
        if odd:
            raise ValueError(f"There is no setting {', '.join(sorted(odd))}.")
        for name, value in read.items():
            setattr(self, name, value)


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 3600:
        raise ValueError("Seconds are a number from 0 to 3600.")
    return float(value)


def _lag(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    if isinstance(value, (int, float)):
        value = [value, value]
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ValueError("lag_seconds is a number, two of them, or null for by hand.")
    least, most = map(_seconds, value)
    return min(least, most), max(least, most)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("limits is true or false.")
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("A count is a whole number from 0.")
    return value


def _tie(value: Any) -> str:
    if value not in ("received", "first"):
        raise ValueError("last_tie is received or first.")
    return str(value)


_READ = {
    "latency_seconds": _seconds,
    "lag_seconds": _lag,
    "limits": _truth,
    "error_samples": _count,
    "identifier_hours": _count,
    "last_tie": _tie,
}
