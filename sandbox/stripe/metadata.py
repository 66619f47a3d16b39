"""Metadata, merged as Stripe merges it."""

from sandbox.stripe.core import Json


def merged(before: Json, given: Json) -> Json:
    """The metadata after an update: a value of "" removes its key, all of it "" removes all."""
    if "metadata" not in given:
        return before
    if given["metadata"] is None:
        return {}
    both = before | given["metadata"]
    return {key: value for key, value in both.items() if value != ""}
