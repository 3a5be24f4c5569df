"""Exporters, one file or folder for each format: they write an integer network, and run what they wrote."""

from collections.abc import Mapping

from transpike.core.registry import family
from transpike.exporters.c import C as C
from transpike.exporters.exporter import Exporter
from transpike.exporters.golden import Golden as Golden
from transpike.exporters.nir_file import Nir as Nir
from transpike.exporters.onnx_format import Onnx as Onnx

members: tuple[type[Exporter], ...] = family("exporter", Exporter).own(globals())
table: Mapping[str, type[Exporter]] = family("exporter").table
