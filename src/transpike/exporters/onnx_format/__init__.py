"""ONNX: the integer form as models of one time step and of T steps (not named ``onnx``, as the library is)."""

from transpike.exporters.onnx_format.exporter import Onnx
