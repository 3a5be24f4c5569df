"""Many recipes on one network."""
