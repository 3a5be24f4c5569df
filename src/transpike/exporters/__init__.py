"""Exporters, one file for each format."""

from transpike.exporters.nir_file import Nir
