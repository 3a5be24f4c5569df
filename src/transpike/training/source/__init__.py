"""Training of networks before their conversion."""
