"""Exporters, one file for each format."""

from transpike.exporters.c import C
