"""Passes that choose thresholds."""
