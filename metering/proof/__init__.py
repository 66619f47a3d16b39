"""What proves, and makes, that bill and ledger agree: above billing and Stripe, which it asks.

Owns: replay, which tells in customers, money and pushes what counters hold otherwise than the
ledger says, and makes it so. Does not own: how counters are computed (`counters/`), what a
quantity costs (`billing/`), and what Stripe is sent (`stripe/`).
"""
