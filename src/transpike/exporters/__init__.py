"""Exporters, one file for each format."""
