"""Accuracy, latency and activity of a converted network, next to its source network."""
