"""The one refusal of this room."""


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
