"""Training of a converted network as it runs."""
