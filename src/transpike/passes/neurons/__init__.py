"""Passes that replace activations by neurons."""
