"""How fast the product is, as ratios to what the same Postgres does at its barest in the same run.

`python -m bench [name …]` measures everything, or what is named; see `docs/performance.md`.
"""
