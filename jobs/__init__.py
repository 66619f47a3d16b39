"""Thin RQ jobs: open a step, call `metering`, done. No rule lives here."""
