"""Passes that put neurons in the place of activations."""
