"""Closed forms of spike codes that several folders need."""
