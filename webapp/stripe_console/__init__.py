"""The console's pages about Stripe."""
