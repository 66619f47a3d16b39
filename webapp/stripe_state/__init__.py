"""/v1/stripe: where a tenant stands with Stripe, and trying again what is stuck."""
