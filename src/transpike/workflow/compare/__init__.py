"""Compare recipes on one network."""
