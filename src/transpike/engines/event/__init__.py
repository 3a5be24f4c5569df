"""The event engine: weights are gathered for the inputs that fired."""
