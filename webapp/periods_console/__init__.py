"""The console's page about a customer's billing periods."""
