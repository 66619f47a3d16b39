"""A local stand-in for Stripe: stateful, with a clock of its own, and as awkward as the real one.

It shares no code with `pricing/` or `metering/`, so that it can be an oracle for both. It is not
believed on its word either: tests hold every request and response against Stripe's own OpenAPI
specification.
"""
