"""Passes that correct biases, weights, thresholds or initial potentials."""
