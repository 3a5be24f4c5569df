"""Exporters, one file for each format."""

from transpike.exporters.onnx_format import Onnx
