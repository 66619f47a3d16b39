"""The few kinds of refusal the core knows. `webapp/problems.py` alone turns them into HTTP."""


class DomainError(Exception):
    """A refusal with a sentence that its reader can act on.

    pointer: a JSON pointer to the offending part of the input, or None.
    """

    def __init__(self, message: str, *, pointer: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.pointer = pointer


class InvalidInputError(DomainError):
    """The sender must change the request."""


class ForbiddenError(DomainError):
    """The caller is known, but may not do this."""


class NotFoundError(DomainError):
    """No such thing within the caller's tenant (or none that it may learn of)."""


class ConflictError(DomainError):
    """Our present state forbids it; the same request may be right later."""
