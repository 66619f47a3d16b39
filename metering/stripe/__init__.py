"""What Stripe is told and what it answers: accounts, streams, pushes, subscriptions, webhooks."""
