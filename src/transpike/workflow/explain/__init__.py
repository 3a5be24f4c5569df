"""Which layers lose accuracy, and which changes recover it."""
