"""Evaluations that a lost process or a kill has ended, and that continue from a file."""
