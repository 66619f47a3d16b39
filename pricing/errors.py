"""The one refusal of this room."""

from typing import Any


class PricingError(ValueError):
    """Input that has no honest price.

    field:  where it stands, as a path such as `tiers/1/upTo`; "" for the input as a whole.
    reason: what is wrong with it, as a sentence's end.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason

    def within(self, path: str) -> "PricingError":
        """The same refusal, seen from outside of what `path` names."""
        return PricingError("/".join(part for part in (path, self.field) if part), self.reason)


def quoted(value: Any) -> str:
    """What was given instead, short enough for a sentence.

    Only texts are shown. A list may be aliases upon aliases, whose text would fill the memory, and
    an integer of 5,000 digits has none.
    """
    return repr(value[:40]) if isinstance(value, str) else f"of type {type(value).__name__}"
