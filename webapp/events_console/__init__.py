"""The console's pages about single events."""
