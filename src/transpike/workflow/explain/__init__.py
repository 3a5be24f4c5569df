"""Which layers lose accuracy, and what a change would give back."""
