"""The console's pages about adjustments."""
