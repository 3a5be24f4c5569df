"""ONNX files as networks: ``file:NAME.onnx``."""

from transpike.models.onnx_file.importer import from_onnx

__all__ = ["from_onnx"]
