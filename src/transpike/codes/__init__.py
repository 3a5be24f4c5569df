"""Closed forms of spike codes that several packages use."""
