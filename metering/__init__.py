"""The domain core: what was used, by whom, in which period, at which price.

It knows neither Flask nor RQ nor an HTTP status. Functions take `(session, …, *, now)`; they
never commit and never read a clock. `metering/README.md` says what it owns.
"""
