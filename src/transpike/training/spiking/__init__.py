"""Training of converted networks."""
