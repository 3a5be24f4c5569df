"""Passes that rewrite layers of the source network."""
