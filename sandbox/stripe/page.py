"""The page at the root: what the stand-in holds, in Stripe's own terms."""

from typing import Any

from sandbox.stripe.http import Answer


def answer(world: Any) -> Answer:
    return Answer(200, {"Content-Type": "text/html; charset=utf-8"}, b"<!doctype html>")
